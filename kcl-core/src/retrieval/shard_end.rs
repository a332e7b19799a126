//! The end of a closed shard: who takes over.

use kcl_lease::{ListedShard, ShardId};

use super::error::{SourceError, SourceErrorKind};
use super::source::{ShardFilter, ShardSource};

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

/// What comes of an answer that says that the shard ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// It did, and these take over.
    Children(Vec<ListedShard>),
    /// The shard is open: the answer was wrong.
    Open(SourceError),
}

/// Who takes over from a shard whose last answer to `operation` named these shards.
///
/// The service names the children in the last answer. Where it does not, they are looked up (interop §5.4 calls such an
/// answer invalid).
pub(super) async fn ending(
    source: &dyn ShardSource,
    shard: &ShardId,
    named: Vec<ListedShard>,
    operation: &'static str,
) -> Result<Ending, SourceError> {
    if !named.is_empty() {
        return Ok(Ending::Children(named));
    }
    let contradiction = |detail: &str| {
        SourceError::new(SourceErrorKind::Malformed, operation)
            .about(format!("shard {shard}"))
            .with_detail(detail)
    };
    let listing = source.list_shards(ShardFilter::All).await?;
    match look_up(&listing, shard) {
        Listed::Children(children) => Ok(Ending::Children(children)),
        Listed::Open => Ok(Ending::Open(contradiction(
            "it says that the shard ended, but the shard is open",
        ))),
        Listed::NoChildrenYet => Err(contradiction(
            "the shard is closed, but no shard is listed that follows it",
        )),
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
