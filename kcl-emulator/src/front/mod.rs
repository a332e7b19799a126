//! HTTP in, HTTP out: the one function behind the server and the in-process client.

mod answer;
mod body;
mod request;
mod resources;
mod subscription;

pub use body::Body;

use std::time::Duration;

use bytes::Bytes;

use crate::emulator::Emulator;
use crate::faults::{FaultCall, Outcome, Plan};
use crate::{ApiError, tasks};
use request::Call;

/// The connection broke: a fault took the request or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("connection reset by a fault of the emulator")]
pub struct ConnectionLost;

type Answer = Result<http::Response<Body>, ConnectionLost>;

impl Emulator {
    /// Answers one HTTP request. The caller is the access key id of its `Authorization` header.
    ///
    /// A request that is under way lands even if the returned future is dropped.
    ///
    /// # Errors
    ///
    /// [`ConnectionLost`] when a fault says that the connection breaks.
    pub async fn respond(&self, request: http::Request<Bytes>) -> Answer {
        self.respond_after(request, Duration::ZERO).await
    }

    /// As [`respond`](Self::respond) over a network where request and answer take `latency` together.
    pub(crate) async fn respond_after(
        &self,
        request: http::Request<Bytes>,
        latency: Duration,
    ) -> Answer {
        let call = match Call::parse(request) {
            Ok(call) => call,
            Err(refusal) => return Ok(answer::refusal(self, &refusal)),
        };
        let mut plan = self.plan(&call);
        plan.delay = plan.delay.saturating_add(latency / 2);
        if plan.outcome == Outcome::Hang {
            return std::future::pending().await;
        }
        let answer = if plan.is_immediate() {
            carry_out(self, &call, &plan)
        } else {
            // On its own task: what is on the network does not come back when the sender gives up.
            let travel = tasks::spawn(travel(self.clone(), call, plan));
            travel.await.unwrap_or(Err(ConnectionLost))
        };
        tokio::time::sleep(latency / 2).await;
        answer
    }

    fn plan(&self, call: &Call) -> Plan {
        self.count(call.key());
        if self.faults().is_idle() {
            return Plan::default();
        }
        let named = resources::of(call);
        let actions: Vec<&str> = named.actions.iter().map(String::as_str).collect();
        let seen = FaultCall {
            caller: &call.caller,
            service: call.service(),
            operation: &call.operation,
            resources: &named.resources,
            actions: &actions,
        };
        self.faults().plan(seen, self.clock().running())
    }
}

async fn travel(emulator: Emulator, call: Call, plan: Plan) -> Answer {
    tokio::time::sleep(plan.delay).await;
    if let Outcome::ApplyLate(by) = plan.outcome {
        tokio::time::sleep(by).await;
    }
    carry_out(&emulator, &call, &plan)
}

fn carry_out(emulator: &Emulator, call: &Call, plan: &Plan) -> Answer {
    let answer = fare(emulator, call, plan);
    let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
    tracing::debug!(
        service = call.service().name(),
        operation = call.operation,
        status,
        "answered"
    );
    answer
}

fn fare(emulator: &Emulator, call: &Call, plan: &Plan) -> Answer {
    let refused: &ApiError = match &plan.outcome {
        Outcome::Refuse(error) => error,
        Outcome::LoseRequest | Outcome::Hang => return Err(ConnectionLost),
        Outcome::LoseAnswer | Outcome::ApplyLate(_) => {
            drop(answer::execute(emulator, call, plan));
            return Err(ConnectionLost);
        }
        Outcome::Proceed => return Ok(answer::execute(emulator, call, plan)),
    };
    Ok(answer::error(emulator, call, refused))
}
