//! Calls to the lease table that are on their way.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::item::Item;
use crate::key::{LeaseKey, StreamKey, WorkerId};
use crate::lease::Lease;
use crate::runtime::Moment;
use crate::table::{
    Consistency, LeaseTable, Prepared, TableError, TableErrorKind, Transacted, Written,
};
use crate::write::RowWrite;

/// A table with more pages than this is read in part only. At a megabyte a page no lease table comes near it.
const PAGES_MAX: usize = 10_000;

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// It was given up; it may still be carried out.
    TimedOut { operation: &'static str },
    /// The table said no.
    Table(TableError),
}

impl CallError {
    pub(super) fn may_be_applied(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Table(error) => !error.has_no_side_effects(),
        }
    }

    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Table(error) => error.is_retryable(),
        }
    }

    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::TimedOut { operation } => operation,
            Self::Table(error) => error.operation(),
        }
    }

    pub(super) fn is_throttled(&self) -> bool {
        matches!(self, Self::Table(error) if *error.kind() == TableErrorKind::Throttled)
    }

    /// Whether the table is not there.
    pub(super) fn is_table_missing(&self) -> bool {
        matches!(self, Self::Table(error) if *error.kind() == TableErrorKind::TableMissing)
    }

    /// Whether the worker lacks the right to make the call.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Table(error) if matches!(error.kind(), TableErrorKind::AccessDenied { .. }))
    }

    pub(super) fn reason(&self) -> String {
        match self {
            Self::TimedOut { operation } => format!("no answer to {operation} in time"),
            Self::Table(error) => error.to_string(),
        }
    }
}

/// What a call was for, and its result.
#[derive(Debug)]
pub(super) enum Answer {
    Prepared(Result<Prepared, CallError>),
    Registered(Result<Written, CallError>),
    /// Our own item says how many leases this worker takes.
    RoomMade {
        session: WorkerId,
        result: Result<Written, CallError>,
    },
    Heartbeat {
        session: WorkerId,
        sent: Moment,
        /// Hints that it took out of the inbox.
        consumed: BTreeSet<String>,
        result: Result<Written, CallError>,
    },
    /// A write of a holder.
    Row {
        key: LeaseKey,
        number: u64,
        attempt: u64,
        result: Result<Outcome, CallError>,
    },
    /// A look at the command for a lease that is held.
    Orders {
        key: LeaseKey,
        number: u64,
        result: Result<Option<Item>, CallError>,
    },
    /// A take or an accept.
    Take {
        key: LeaseKey,
        session: WorkerId,
        sent: Moment,
        result: Result<Written, CallError>,
    },
    /// A strongly consistent read of a worker's item before a take.
    Owner {
        worker: WorkerId,
        sent: Moment,
        result: Result<Option<Item>, CallError>,
    },
    /// A strongly consistent read of a row.
    RowRead {
        key: LeaseKey,
        result: Result<Option<Item>, CallError>,
    },
    /// A look at another worker's heartbeat.
    Watched {
        worker: WorkerId,
        sent: Moment,
        consistency: Consistency,
        result: Result<Option<Item>, CallError>,
    },
    /// A look at our own item.
    Inbox(Result<Option<Item>, CallError>),
    /// A look at the leader item.
    Leader {
        sent: Moment,
        consistency: Consistency,
        result: Result<Option<Item>, CallError>,
    },
    /// A write of the leader item.
    Led(Result<Written, CallError>),
    /// Hints for another worker.
    Hinted {
        worker: WorkerId,
        hints: BTreeSet<String>,
        sent: Moment,
        result: Result<Written, CallError>,
    },
    Scan {
        begun: Moment,
        consistency: Consistency,
        result: Result<Vec<Item>, CallError>,
    },
    /// A stream item, stored.
    Stream {
        stream: StreamKey,
        result: Result<Written, CallError>,
    },
    /// A stream item, read because it is not known, or because there is a new session.
    StreamRead {
        stream: StreamKey,
        result: Result<Option<Item>, CallError>,
    },
    /// A stream item: its leases are about to be deleted.
    RemovalBegun {
        stream: StreamKey,
        result: Result<Written, CallError>,
    },
    /// A row of a stream that is not read any more, deleted.
    FormerRow {
        key: LeaseKey,
        result: Result<Written, CallError>,
    },
    /// The item of a stream that is not read any more, deleted.
    FormerStream {
        stream: StreamKey,
        result: Result<Written, CallError>,
    },
    /// A row of a stream that was left, deleted.
    ResetRow(Box<Lease>, Result<Written, CallError>),
    /// The stream item, replaced.
    ResetStream(Result<Written, CallError>),
    /// A look at the item that the leader stores about the stream.
    StoredStream(Result<Option<Item>, CallError>),
    /// The row of a shard in a listing.
    Created {
        key: LeaseKey,
        result: Result<Written, CallError>,
    },
    /// The row of a finished shard, and all rows that decide whether it can go, read strongly consistent.
    Litter {
        key: LeaseKey,
        result: Result<Vec<(LeaseKey, Option<Item>)>, CallError>,
    },
    /// A deletion, or other housekeeping whose outcome changes nothing.
    Housekeeping(Result<Written, CallError>),
    /// The last call: our own item is deleted.
    Farewell(Result<Written, CallError>),
}

/// The result of a holder's write.
#[derive(Debug)]
pub(super) enum Outcome {
    Written(Written),
    Transacted(Transacted),
}

type Pending = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Makes calls and collects their answers.
pub(super) struct Calls {
    table: Arc<dyn LeaseTable>,
    timeout: Duration,
    prepare_timeout: Duration,
    pending: FuturesUnordered<Pending>,
}

impl Calls {
    /// `timeout` ends every single call, `prepare_timeout` the preparation of the table.
    pub(super) fn new(
        table: Arc<dyn LeaseTable>,
        timeout: Duration,
        prepare_timeout: Duration,
    ) -> Self {
        Self {
            table,
            timeout,
            prepare_timeout,
            pending: FuturesUnordered::new(),
        }
    }

    /// The next answer; never, while no call is on its way.
    pub(super) async fn next(&mut self) -> Answer {
        match self.pending.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    pub(super) fn prepare(&self) {
        let (table, timeout) = (Arc::clone(&self.table), self.prepare_timeout);
        self.pending.push(Box::pin(async move {
            Answer::Prepared(within(timeout, "the table's preparation", table.prepare()).await)
        }));
    }

    pub(super) fn write(
        &self,
        write: RowWrite,
        answer: impl FnOnce(Result<Written, CallError>) -> Answer + Send + 'static,
    ) {
        let (table, timeout) = (Arc::clone(&self.table), self.timeout);
        self.pending.push(Box::pin(async move {
            answer(within(timeout, "a write", table.write(write)).await)
        }));
    }

    pub(super) fn transact(
        &self,
        writes: Vec<RowWrite>,
        answer: impl FnOnce(Result<Transacted, CallError>) -> Answer + Send + 'static,
    ) {
        let (table, timeout) = (Arc::clone(&self.table), self.timeout);
        self.pending.push(Box::pin(async move {
            answer(within(timeout, "a transaction", table.transact(writes)).await)
        }));
    }

    pub(super) fn get(
        &self,
        key: String,
        consistency: Consistency,
        answer: impl FnOnce(Result<Option<Item>, CallError>) -> Answer + Send + 'static,
    ) {
        let (table, timeout) = (Arc::clone(&self.table), self.timeout);
        self.pending.push(Box::pin(async move {
            answer(within(timeout, "a read", table.get(&key, consistency)).await)
        }));
    }

    /// Reads several items one after the other, strongly consistent.
    pub(super) fn get_all(
        &self,
        keys: Vec<LeaseKey>,
        answer: impl FnOnce(Result<Vec<(LeaseKey, Option<Item>)>, CallError>) -> Answer + Send + 'static,
    ) {
        let (table, timeout) = (Arc::clone(&self.table), self.timeout);
        self.pending.push(Box::pin(async move {
            let mut read = Vec::with_capacity(keys.len());
            for key in keys {
                let get = table.get(key.as_str(), Consistency::Strong);
                match within(timeout, "a read", get).await {
                    Ok(item) => read.push((key, item)),
                    Err(error) => return answer(Err(error)),
                }
            }
            answer(Ok(read))
        }));
    }

    pub(super) fn scan(&self, consistency: Consistency, begun: Moment) {
        let (table, timeout) = (Arc::clone(&self.table), self.timeout);
        self.pending.push(Box::pin(async move {
            let result = scan_all(table.as_ref(), consistency, timeout).await;
            Answer::Scan {
                begun,
                consistency,
                result,
            }
        }));
    }
}

async fn scan_all(
    table: &dyn LeaseTable,
    consistency: Consistency,
    timeout: Duration,
) -> Result<Vec<Item>, CallError> {
    let mut items = Vec::new();
    let mut page = None;
    for _ in 0..PAGES_MAX {
        let read = within(timeout, "a scan", table.scan(consistency, page)).await?;
        items.extend(read.items);
        page = read.next;
        if page.is_none() {
            break;
        }
    }
    Ok(items)
}

async fn within<T>(
    timeout: Duration,
    operation: &'static str,
    call: impl Future<Output = Result<T, TableError>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(result) => result.map_err(CallError::Table),
        Err(_) => Err(CallError::TimedOut { operation }),
    }
}
