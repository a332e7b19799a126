//! The connections that subscriptions share, and how one that is dead is left behind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;

use super::super::wire::{KinesisWire, Negotiation, Wire};

/// Fewer subscriptions than any server lets one HTTP/2 connection have, and so few that those whose events nobody takes
/// leave room for the others.
const SUBSCRIPTIONS_EACH: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections for subscriptions: as many as are needed, each with a client of its own.
#[derive(Debug)]
pub(in super::super) struct Connections {
    base: Client,
    negotiation: Arc<Negotiation>,
    lines: Mutex<Vec<Line>>,
}

/// A client whose subscriptions share one connection.
#[derive(Debug)]
struct Line {
    client: Client,
    open: Arc<AtomicUsize>,
}

/// A place on a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) used: UsedConnection,
    open: Arc<AtomicUsize>,
}

impl Connections {
    /// Connections with the credentials, endpoint and HTTP client of `base`.
    pub(in super::super) fn new(base: Client, negotiation: Arc<Negotiation>) -> Self {
        Self {
            base,
            negotiation,
            lines: Mutex::default(),
        }
    }

    /// A place on the first connection that has one, or on a new one.
    pub(super) fn place(&self) -> Place {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let free = |line: &&Line| line.open.load(Ordering::Relaxed) < SUBSCRIPTIONS_EACH;
        if let Some(line) = lines.iter().find(free) {
            return line.place();
        }
        let line = Line {
            client: self.apart(lines.len()),
            open: Arc::default(),
        };
        let place = line.place();
        lines.push(line);
        place
    }

    /// The same client with connections of its own: HTTP clients of the SDK keep one pool for each set of time limits, and there
    /// is no other way to ask for one.
    fn apart(&self, number: usize) -> Client {
        // None has the limit of the other calls, whose connections are not for subscriptions.
        let number = u64::try_from(number % 1_000).unwrap_or_default() + 1;
        let connecting = CONNECT_TIMEOUT - Duration::from_millis(number);
        let limits = TimeoutConfig::builder().connect_timeout(connecting);
        let builder = self.base.config().to_builder();
        let builder = builder.timeout_config(limits.build());
        Client::from_conf(match self.negotiation.wire() {
            // As the SDK does it by itself.
            Wire::Json => builder.build(),
            Wire::Cbor => {
                let protocol = KinesisWire::new(Arc::clone(&self.negotiation));
                builder.protocol(protocol).build()
            }
        })
    }
}

impl Line {
    fn place(&self) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        Place {
            client: self.client.clone(),
            used: UsedConnection::default(),
            open: Arc::clone(&self.open),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Notes which connection a call went out on.
#[derive(Debug, Clone, Default)]
pub(super) struct UsedConnection(Arc<Mutex<Option<CaptureSmithyConnection>>>);

impl UsedConnection {
    /// Lets no other call use the connection. Those that use it already are not disturbed.
    pub(super) fn retire(&self) {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = used.as_ref().and_then(CaptureSmithyConnection::get) {
            connection.poison();
        }
    }
}

impl Intercept for UsedConnection {
    fn name(&self) -> &'static str {
        "UsedConnection"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let used = bag.load::<CaptureSmithyConnection>().cloned();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = used;
        Ok(())
    }
}
