//! The seam to the place where leases are kept.

use std::error::Error as StdError;
use std::fmt;

use async_trait::async_trait;

use crate::item::Item;
use crate::write::RowWrite;

/// A boxed error of a lower layer.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Where leases are kept.
///
/// Each call is one attempt: it does not repeat itself, because after a lost answer only the caller knows what a
/// repetition means. Dropping a call's future leaves open whether a write happens.
#[async_trait]
pub trait LeaseTable: Send + Sync + fmt::Debug {
    /// Reads one item; `None` if there is none.
    ///
    /// # Errors
    /// When the table cannot be read.
    async fn get(&self, key: &str, consistency: Consistency) -> Result<Option<Item>, TableError>;

    /// Reads one page of the table: the first one, or the one that `page` of an earlier answer names.
    ///
    /// # Errors
    /// When the table cannot be read.
    async fn scan(
        &self,
        consistency: Consistency,
        page: Option<ScanToken>,
    ) -> Result<ScanPage, TableError>;

    /// Carries out one write if its condition holds.
    ///
    /// # Errors
    /// When it is not known that the condition was judged; see [`TableError::has_no_side_effects`].
    async fn write(&self, write: RowWrite) -> Result<Written, TableError>;

    /// Carries out all of the writes, or none. Each must be to another item.
    ///
    /// # Errors
    /// When it is not known that the conditions were judged; see [`TableError::has_no_side_effects`].
    async fn transact(&self, writes: Vec<RowWrite>) -> Result<Transacted, TableError>;

    /// Makes sure that the table exists and is usable; creates it if needed and permitted.
    ///
    /// # Errors
    /// When the table is not usable and cannot be created, or does not become usable in time.
    async fn prepare(&self) -> Result<Prepared, TableError>;
}

/// How current a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// May miss the latest writes, half the price.
    Eventual,
    /// Reflects every write that was answered before the call.
    Strong,
}

/// Where the next page of a scan begins: the key of the item before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanToken(pub Item);

/// One page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The items.
    pub items: Vec<Item>,
    /// Where the next page begins; `None` if this is the last one. A page can be empty without being the last.
    pub next: Option<ScanToken>,
}

/// The answer to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It happened; the whole item after it (empty after a deletion).
    Applied(Item),
    /// The condition did not hold; the whole item as it is, if there is one.
    Refused(Option<Item>),
}

/// The answer to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transacted {
    /// All writes happened.
    Applied,
    /// None happened; one reason for each write, in their order.
    Refused(Vec<Refusal>),
}

/// Why one write kept a transaction from happening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It did not: the reason lies with another write.
    None,
    /// Its condition did not hold; the whole item as it is, if there is one.
    Condition(Option<Item>),
    /// Another transaction or write on the same item was in progress: try again later.
    Conflict,
    /// Its item is throttled: try again later.
    Throttled,
}

/// The answer to [`LeaseTable::prepare`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// The table did not exist before this call, which created it.
    pub created: bool,
}

/// A call to the lease table that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} on lease table {table:?}: {kind}")]
pub struct TableError {
    kind: TableErrorKind,
    operation: &'static str,
    table: String,
    source: Option<BoxError>,
}

/// What went wrong with a call to the lease table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableErrorKind {
    /// The service refused the call because of too much traffic.
    #[error(
        "throttled; it is tried again, raise the table's capacity or use on-demand capacity if this lasts"
    )]
    Throttled,
    /// The call may or may not have been carried out: no answer, or an internal error of the service.
    #[error("no clear answer; whether it took effect is found out by the next call")]
    Unknown,
    /// The call was not carried out: the service could not be reached or was not able to serve it.
    #[error(
        "the service could not serve the call; it is tried again, check network and endpoint if this lasts"
    )]
    Unavailable,
    /// Another write or transaction on the same item was in progress; this one was not carried out.
    #[error("another write on the same item was in progress; it is tried again")]
    Conflict,
    /// There are no usable credentials.
    #[error(
        "no usable AWS credentials; configure a profile, a role or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    NoCredentials,
    /// The credentials do not allow the call.
    #[error("access denied; allow {action} on the table to this worker's role")]
    AccessDenied {
        /// The IAM action that is missing.
        action: &'static str,
    },
    /// The table does not exist.
    #[error(
        "the table does not exist; let the worker create it or create it with hash key leaseKey (S)"
    )]
    TableMissing,
    /// The table exists but was not usable in time.
    #[error("the table is in state {status} and did not become ACTIVE in time; try again later")]
    NotActive {
        /// Its state as the service calls it.
        status: String,
    },
    /// The table exists and is no lease table.
    #[error(
        "the table has key schema {found}, not leaseKey (S, HASH) alone; choose another table name"
    )]
    WrongSchema {
        /// Its key schema.
        found: String,
    },
    /// The service or this library refuses the call as it is: trying again is of no use.
    #[error("refused as invalid: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
}

impl TableError {
    /// An error without a source.
    #[must_use]
    pub fn new(kind: TableErrorKind, operation: &'static str, table: impl Into<String>) -> Self {
        Self {
            kind,
            operation,
            table: table.into(),
            source: None,
        }
    }

    /// The same error with the lower layer's error as its source.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &TableErrorKind {
        &self.kind
    }

    /// The call's name, as the service calls it.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// True if the same call can succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            TableErrorKind::Throttled
                | TableErrorKind::Unknown
                | TableErrorKind::Unavailable
                | TableErrorKind::Conflict
                | TableErrorKind::NotActive { .. }
        )
    }

    /// True if it is certain that nothing was written.
    #[must_use]
    pub fn has_no_side_effects(&self) -> bool {
        self.kind != TableErrorKind::Unknown
    }
}
