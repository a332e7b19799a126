//! A grant's orders: whether its lease is paused, and seeks.

use std::sync::Arc;

use tokio::sync::watch;

use crate::grant::{Grant, GrantError, GrantRequest};
use crate::orders::{Obey, Orders, StartPoint};
use crate::stop_cause::StopCause;

impl Grant {
    /// What operators want of the holder: `None` until that is known, which takes one read after the lease was granted.
    /// Nothing may be delivered before it is known, nor unless it [allows](Orders::allow_delivery) it.
    #[must_use]
    pub fn orders(&self) -> watch::Receiver<Option<Orders>> {
        self.shared.orders().subscribe()
    }

    /// Whether records may be delivered as far as operators are concerned.
    #[must_use]
    pub fn is_ordered_to_deliver(&self) -> bool {
        let orders = self.shared.orders().borrow();
        orders.as_ref().is_some_and(Orders::allow_delivery)
    }

    /// Whether operators have paused the lease, as far as is known.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let orders = self.shared.orders().borrow();
        orders.as_ref().is_some_and(|orders| orders.paused)
    }

    /// Why a worker stopped the shard for all its holders, as far as is known.
    #[must_use]
    pub fn stop_cause(&self) -> Option<StopCause> {
        let orders = self.shared.orders().borrow();
        orders.as_ref().and_then(|orders| orders.stopped.clone())
    }

    /// Stores that the holder obeys these orders, in the lease's row: from then on operators know that it does. It must do
    /// so when it asks: no call of the processor runs if they pause the lease, and all progress is stored if they seek.
    ///
    /// The grant that is returned replaces this one. After a seek it [starts](Self::start) at the new place, and this one
    /// stores no progress any more.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    ///
    /// # Cancellation
    /// Dropping the future does not take the request back; asking again waits for it.
    pub async fn obey(&self, orders: &Orders) -> Result<Self, GrantError> {
        match orders.are_new() {
            true => self.ask_to_obey(orders.obey()).await,
            false => Ok(self.clone()),
        }
    }

    /// Moves the place where reading goes on, because the holder itself wants to; `to` must be
    /// [fixed](StartPoint::is_fixed). All progress that should be stored before must be stored. A pending checkpoint is
    /// over with it.
    ///
    /// The grant that is returned [starts](Self::start) there and replaces this one, which stores no progress any more. It may
    /// be asked to move to the same place again; this one, asked again, waits for the same move.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint), and [`GrantError::NoFixedPlace`].
    ///
    /// # Cancellation
    /// Dropping the future does not take the request back; asking again waits for it.
    pub async fn seek(&self, to: StartPoint) -> Result<Self, GrantError> {
        if !to.is_fixed() {
            let key = self.lease_key().clone();
            return Err(GrantError::NoFixedPlace { key });
        }
        let obey = Obey {
            to: Some(to),
            ..Obey::default()
        };
        self.ask_to_obey(obey).await
    }

    async fn ask_to_obey(&self, obey: Obey) -> Result<Self, GrantError> {
        let to = obey.to.clone();
        let era = self.ask(|reply| GrantRequest::Obey(obey, reply)).await?;
        Ok(match to {
            None => self.clone(),
            Some(to) => Self {
                shared: Arc::clone(&self.shared),
                era,
                start: to,
                pending: None,
            },
        })
    }
}
