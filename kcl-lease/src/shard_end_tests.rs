use super::*;
use crate::HashKeyRange;
use crate::key::WorkerId;
use crate::test_support::{lease, lease_item};
use crate::write::Change;

fn child(name: &str, parents: &[&str]) -> ListedShard {
    ListedShard {
        shard_id: ShardId::from(name),
        parent: parents.first().map(|p| ShardId::from(*p)),
        adjacent_parent: parents.get(1).map(|p| ShardId::from(*p)),
        hash_range: HashKeyRange::FULL,
        open: true,
    }
}

fn held() -> Held {
    Held {
        key: LeaseKey::from("p"),
        counter: 7,
        owner: WorkerId::from("w/1"),
    }
}

fn plan(children: Vec<ListedShard>, other_has_row: bool) -> ShardEnd {
    let has_row = |key: &LeaseKey| other_has_row && key.as_str() == "q";
    ShardEnd::new(&LeaseKey::from("p"), children, has_row).unwrap()
}

fn parts(plan: &ShardEnd) -> Vec<Part> {
    plan.writes(&held(), 99)
        .into_iter()
        .map(|(part, _)| part)
        .collect()
}

#[test]
fn a_split_finishes_the_parent_and_makes_both_children() {
    let plan = plan(vec![child("a", &["p"]), child("b", &["p"])], false);
    let writes = plan.writes(&held(), 99);
    assert_eq!(
        parts(&plan),
        [Part::Parent, Part::MakeChild(0), Part::MakeChild(1)]
    );
    assert_eq!(writes[0].1, write::shard_end(&held(), &plan.children()));
    assert!(
        matches!(&writes[1].1.change, Change::Put(item) if item["leaseCounter"] == crate::item::Value::number(99))
    );
    assert_eq!(plan.outcome().children.len(), 2);
}

#[test]
fn a_child_whose_row_is_known_is_named_and_not_made_again() {
    let children = vec![child("c", &["p", "q"])];
    let has_row = |key: &LeaseKey| key.as_str() == "c";
    let plan = ShardEnd::new(&LeaseKey::from("p"), children, has_row).unwrap();
    assert_eq!(parts(&plan), [Part::Parent, Part::ChildExists(0)]);
    assert_eq!(plan.children(), [ShardId::from("c")].into());
    assert!(plan.outcome().waiting.is_empty());
}

#[test]
fn a_shard_without_children_is_just_finished() {
    assert_eq!(parts(&plan(vec![], false)), [Part::Parent]);
}

#[test]
fn the_child_of_a_merge_is_made_only_beside_the_other_parents_row() {
    let merged = || vec![child("c", &["p", "q"])];
    let q = || Part::OtherParent(LeaseKey::from("q"));
    let with = plan(merged(), true);
    assert_eq!(parts(&with), [Part::Parent, q(), Part::MakeChild(0)]);
    assert_eq!(
        with.writes(&held(), 1)[1].1,
        write::check_exists(&LeaseKey::from("q"))
    );
    let without = plan(merged(), false);
    assert_eq!(parts(&without), [Part::Parent, q()]);
    assert_eq!(
        without.writes(&held(), 1)[1].1,
        write::check_absent(&LeaseKey::from("q"))
    );
    assert_eq!(without.outcome().waiting, [ShardId::from("c")]);
    // The parent's row does not name a child that was not made.
    assert_eq!(
        without.writes(&held(), 1)[0].1,
        write::shard_end(&held(), &BTreeSet::new())
    );
    assert_eq!(without.made().count(), 0);
}

#[test]
fn a_wrong_belief_is_corrected_by_the_reasons_of_the_refusal() {
    let item = || Some(lease_item(&lease("x")));
    let mut plan = plan(vec![child("c", &["p", "q"])], true);
    // The other parent has no row after all.
    let refusals = vec![Refusal::None, Refusal::Condition(None), Refusal::None];
    assert_eq!(plan.refused(&parts(&plan), refusals), Reaction::Again);
    assert_eq!(parts(&plan).len(), 2);
    // Now it has.
    let refusals = vec![Refusal::None, Refusal::Condition(item())];
    assert_eq!(plan.refused(&parts(&plan), refusals), Reaction::Again);
    assert_eq!(parts(&plan).len(), 3);
    // The child has a row already.
    let refusals = vec![Refusal::None, Refusal::None, Refusal::Condition(item())];
    assert_eq!(plan.refused(&parts(&plan), refusals), Reaction::Again);
    assert_eq!(parts(&plan), [Part::Parent, Part::ChildExists(0)]);
    assert_eq!(plan.outcome().children, [ShardId::from("c")]);
    assert_eq!(plan.found().count(), 1);
    // And lost it.
    let refusals = vec![Refusal::None, Refusal::Condition(None)];
    assert_eq!(plan.refused(&parts(&plan), refusals), Reaction::Again);
    assert!(parts(&plan).contains(&Part::MakeChild(0)));
}

#[test]
fn a_conflict_waits_and_a_changed_parent_is_judged_by_the_holder() {
    let mut plan = plan(vec![child("a", &["p"])], false);
    let sent = parts(&plan);
    for refusal in [Refusal::Conflict, Refusal::Throttled] {
        assert_eq!(
            plan.refused(&sent, vec![Refusal::None, refusal]),
            Reaction::Later
        );
    }
    assert_eq!(plan.refused(&sent, vec![]), Reaction::Later);
    let item = lease_item(&lease("p"));
    let refusals = vec![Refusal::Condition(Some(item.clone())), Refusal::None];
    assert_eq!(
        plan.refused(&sent, refusals),
        Reaction::ParentChanged(Some(item))
    );
}
