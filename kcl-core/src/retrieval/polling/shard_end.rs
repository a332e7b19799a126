//! The end of a closed shard: who takes over.

use std::sync::Arc;

use kcl_lease::{ListedShard, ShardId};

use super::Poller;
use crate::retrieval::batch::Batch;
use crate::retrieval::delivery::{Delivery, Gap, ShardEnd};
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::source::ShardFilter;

/// What the listing says of a shard whose last answer named no children.
#[derive(Debug, PartialEq, Eq)]
enum Listed {
    /// The shard still takes records: the answer without a next iterator was wrong.
    Open,
    /// The shard is closed, or gone from the listing, and these take over.
    Children(Vec<ListedShard>),
    /// The shard is closed and nobody takes over: the listing is behind.
    NoChildrenYet,
}

fn look_up(listing: &[ListedShard], shard: &ShardId) -> Listed {
    let children: Vec<ListedShard> = listing
        .iter()
        .filter(|listed| listed.parents().any(|parent| parent == shard))
        .cloned()
        .collect();
    match listing.iter().find(|listed| listed.shard_id == *shard) {
        Some(own) if own.open => Listed::Open,
        Some(_) if children.is_empty() => Listed::NoChildrenYet,
        _ => Listed::Children(children),
    }
}

impl Poller {
    /// The last delivery of the shard; `None` when it turns out to be open after all.
    ///
    /// The service names the children in the last answer. Where it does not, they are looked up (interop §5.4 calls
    /// such an answer invalid).
    pub(super) async fn end_of_shard(
        &mut self,
        named: Vec<ListedShard>,
    ) -> Result<Option<Delivery>, SourceError> {
        if !named.is_empty() {
            return Ok(Some(self.end(named)));
        }
        let listing = self.polling.source.list_shards(ShardFilter::All).await?;
        let contradiction = match look_up(&listing, &self.read.shard) {
            Listed::Children(children) => return Ok(Some(self.end(children))),
            Listed::Open => {
                self.closed = None;
                "there is no next iterator, but the shard is open"
            }
            Listed::NoChildrenYet => "the shard is closed, but no shard is listed that follows it",
        };
        Err(SourceError::new(SourceErrorKind::Malformed, "GetRecords")
            .about(format!("shard {}", self.read.shard))
            .with_detail(contradiction))
    }

    fn end(&mut self, children: Vec<ListedShard>) -> Delivery {
        // The record at which reading was to go on is gone, and so is all that followed.
        let gap = self.expected_first.take().map(|from| Gap {
            from: Some(from),
            to: None,
        });
        Delivery {
            gap,
            batch: Arc::new(Batch::empty()),
            rows: 0..0,
            behind: None,
            fetched_at: self.polling.runtime.now(),
            end: Some(ShardEnd { children }),
        }
    }
}

#[cfg(test)]
mod tests {
    use kcl_lease::HashKeyRange;

    use super::*;

    fn shard(id: &str, parents: [Option<&str>; 2], open: bool) -> ListedShard {
        let [parent, adjacent_parent] = parents.map(|parent| parent.map(ShardId::from));
        ListedShard {
            shard_id: ShardId::from(id),
            parent,
            adjacent_parent,
            hash_range: HashKeyRange::FULL,
            open,
        }
    }

    #[test]
    fn children_are_the_shards_that_name_it_as_either_parent() {
        let listing = [
            shard("a", [None, None], false),
            shard("b", [None, None], false),
            shard("c", [Some("b"), Some("a")], true),
            shard("d", [Some("b"), None], true),
        ];
        let children = |id: &str| match look_up(&listing, &ShardId::from(id)) {
            Listed::Children(children) => children.iter().map(|c| c.shard_id.to_string()).collect(),
            other => vec![format!("{other:?}")],
        };
        assert_eq!(children("a"), ["c"]);
        assert_eq!(children("b"), ["c", "d"]);
        assert_eq!(children("c"), ["Open"]);
        assert!(children("gone long ago").is_empty());
        let behind = [shard("a", [None, None], false)];
        assert_eq!(look_up(&behind, &ShardId::from("a")), Listed::NoChildrenYet);
    }
}
