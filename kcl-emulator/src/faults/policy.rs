//! The policy: the rules in force, asked once per request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Fault, FaultScript, Plan, Rule, draw};
use crate::{ApiError, Caller, Service};

/// A request as the policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct FaultCall<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// The service that is called.
    pub service: Service,
    /// The operation that is called.
    pub operation: &'a str,
    /// What the request names, the widest first: stream or table, then shard or lease key.
    pub resources: &'a [String],
    /// The operations that IAM checks where it is not `operation` itself: the writes of a transaction.
    pub actions: &'a [&'a str],
}

/// The faults of one emulator. Clones share the rules.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    seed: u64,
    account: String,
    region: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Installed>,
    second: u64,
    /// Draws that were made in this second, per rule and request key.
    draws: BTreeMap<(u64, u64), u64>,
}

#[derive(Debug)]
struct Installed {
    key: u64,
    selected: u64,
    rule: Rule,
}

impl Faults {
    pub(crate) fn new(seed: u64, region: &str, account: &str) -> Self {
        Self(Arc::new(Shared {
            seed,
            account: account.to_owned(),
            region: region.to_owned(),
            state: Mutex::default(),
        }))
    }

    /// Puts a rule in force, after those that are.
    pub fn add(&self, rule: Rule) {
        let installed = Installed {
            key: rule.key(),
            selected: 0,
            rule,
        };
        self.with(|state| state.rules.push(installed));
    }

    /// Puts the rules of a script in force, after those that are.
    pub fn run(&self, script: FaultScript) {
        for rule in script.rules {
            self.add(rule);
        }
    }

    /// Removes the rules of this name.
    pub fn remove(&self, name: &str) {
        self.with(|state| {
            state
                .rules
                .retain(|installed| installed.rule.name.as_deref() != Some(name));
        });
    }

    /// Removes every rule: all is well again.
    pub fn clear(&self) {
        self.with(|state| state.rules.clear());
    }

    /// Cuts a caller off until [`heal`](Self::heal): nothing it sends arrives, nothing reaches it.
    pub fn partition(&self, caller: &str) {
        self.add(
            Rule::new(Fault::Disconnect)
                .named(partition_name(caller))
                .caller(caller),
        );
    }

    /// Reconnects a caller that was cut off.
    pub fn heal(&self, caller: &str) {
        self.remove(&partition_name(caller));
    }

    /// Denies a caller an action such as `kinesis:GetRecords` or `dynamodb:*` until
    /// [`allow`](Self::allow); callers and actions may end in `*`.
    pub fn deny(&self, caller: &str, action: &str) {
        let (service, operation) = action.split_once(':').unwrap_or(("*", action));
        let services = [Service::Kinesis, Service::DynamoDb, Service::CloudWatch];
        let denied = services
            .into_iter()
            .filter(|known| service == "*" || known.name() == service);
        for service in denied {
            self.add(
                Rule::new(Fault::Deny)
                    .named(denial_name(caller, action))
                    .caller(caller)
                    .service(service)
                    .operation(operation),
            );
        }
    }

    /// Takes back a denial; both names must be those of [`deny`](Self::deny).
    pub fn allow(&self, caller: &str, action: &str) {
        self.remove(&denial_name(caller, action));
    }

    /// Decides how a request fares when the emulator has been running for `running`. Asking counts:
    /// rules for the n-th request see one more.
    #[must_use]
    pub fn plan(&self, call: FaultCall<'_>, running: Duration) -> Plan {
        let seed = self.0.seed;
        self.with(|state| {
            let mut plan = Plan::default();
            state.enter(running.as_secs());
            let State {
                rules,
                draws,
                second,
            } = state;
            for installed in rules {
                if installed.befalls(
                    &call,
                    running,
                    &mut Draws {
                        seed,
                        second: *second,
                        draws,
                    },
                ) {
                    plan.add(&installed.rule.fault, || {
                        self.denial(&call, &installed.rule)
                    });
                }
            }
            plan
        })
    }

    /// Whether a caller is cut off.
    #[must_use]
    pub fn is_partitioned(&self, caller: &Caller, service: Service, running: Duration) -> bool {
        let call = FaultCall {
            caller,
            service,
            operation: "",
            resources: &[],
            actions: &[],
        };
        self.with(|state| {
            state.rules.iter().any(|Installed { rule, .. }| {
                rule.fault == Fault::Disconnect && rule.is_due(running) && rule.selects(&call)
            })
        })
    }

    /// Whether there are no rules, so that nobody needs to know what a request is about.
    pub(crate) fn is_idle(&self) -> bool {
        self.with(|state| state.rules.is_empty())
    }

    fn denial(&self, call: &FaultCall<'_>, rule: &Rule) -> ApiError {
        let Shared {
            region, account, ..
        } = &*self.0;
        let service = call.service.name();
        let denied = call
            .actions
            .iter()
            .find(|action| rule.operation.as_deref() == Some(**action));
        let operation = denied.copied().unwrap_or(call.operation);
        let kind = match call.service {
            Service::Kinesis => "stream",
            Service::DynamoDb => "table",
            Service::CloudWatch => "*",
        };
        let resource = match call.resources.first() {
            Some(name) => format!("arn:aws:{service}:{region}:{account}:{kind}/{name}"),
            None => "*".to_owned(),
        };
        ApiError::client(
            "AccessDeniedException",
            format!(
                "User: arn:aws:iam::{account}:user/{} is not authorized to perform: \
                 {service}:{operation} on resource: {resource} because no identity-based policy \
                 allows the {service}:{operation} action",
                call.caller.0
            ),
        )
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Forgets the draws of past seconds.
    fn enter(&mut self, second: u64) {
        if second != self.second {
            self.second = second;
            self.draws.clear();
        }
    }
}

struct Draws<'a> {
    seed: u64,
    second: u64,
    draws: &'a mut BTreeMap<(u64, u64), u64>,
}

impl Draws<'_> {
    /// Draws for a request by its second and its number within the second: a request more or less
    /// shifts the decisions of its own key in its own second only.
    fn hits(&mut self, share: f64, rule: u64, call: &FaultCall<'_>) -> bool {
        let names = [call.caller.0.as_str(), call.service.name(), call.operation];
        let request = draw::key(
            names
                .into_iter()
                .chain(call.resources.iter().map(String::as_str)),
        );
        let made = self.draws.entry((rule, request)).or_default();
        *made += 1;
        let key = draw::number(rule, request, self.second);
        draw::fraction(self.seed, key, *made) < share
    }
}

impl Installed {
    fn befalls(&mut self, call: &FaultCall<'_>, running: Duration, draws: &mut Draws<'_>) -> bool {
        if !self.rule.is_due(running) || !self.rule.selects(call) {
            return false;
        }
        self.selected += 1;
        self.rule.nth.is_none_or(|nth| nth == self.selected)
            && self.rule.first.is_none_or(|first| self.selected <= first)
            && self
                .rule
                .probability
                .is_none_or(|share| draws.hits(share, self.key, call))
    }
}

fn partition_name(caller: &str) -> String {
    format!("partition {caller}")
}

fn denial_name(caller: &str, action: &str) -> String {
    format!("deny {caller} {action}")
}
