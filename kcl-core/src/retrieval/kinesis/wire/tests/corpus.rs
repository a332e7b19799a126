//! The corpus of the fuzz targets (`fuzz/seeds`): as it is, cut at every byte, and damaged at random from fixed seeds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::super::Wire;
use super::decode;
use super::events::{Ending, by_us, with_right_checksums};
use super::hostile::both;
use super::{CBOR, JSON, Reply, Server, get};
use crate::retrieval::SourceErrorKind;

/// What one damaged body becomes.
const DAMAGES: u64 = 400;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let files = fs::read_dir(folder.join(target)).unwrap();
    let mut bodies: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    bodies.sort();
    assert!(!bodies.is_empty());
    bodies
}

fn answers() -> [(Wire, &'static str); 2] {
    [(Wire::Json, "json_answer"), (Wire::Cbor, "cbor_answer")]
}

/// An answer that lacks its end is never taken for a whole one, wherever it was cut.
#[test]
fn answers_of_the_corpus_are_answers_and_no_part_of_them_is() {
    for (wire, target) in answers() {
        for (path, body) in corpus(target) {
            let is_answer = !path.to_string_lossy().contains("no-records");
            let whole = Bytes::from(body);
            assert_eq!(decode(wire, whole.clone()).is_ok(), is_answer, "{path:?}");
            for cut in 0..whole.trim_ascii_end().len() {
                let part = decode(wire, whole.slice(..cut));
                assert!(part.is_err(), "{path:?} cut at {cut}");
            }
        }
    }
}

/// The same through the whole client: a clear error that may be tried again.
#[tokio::test(start_paused = true)]
async fn an_answer_cut_at_any_byte_is_malformed() {
    for (wire, content_type, name) in [
        (Wire::Json, JSON, "json_answer/plain.json"),
        (Wire::Cbor, CBOR, "cbor_answer/plain-loose.cbor"),
    ] {
        let bodies = corpus(name.split('/').next().unwrap());
        let (_, body) = bodies
            .iter()
            .find(|(path, _)| path.ends_with(name))
            .unwrap();
        let (len, body, calls) = (body.len(), Bytes::from(body.clone()), AtomicUsize::new(0));
        let server = Server::new(move |_| {
            let cut = calls.fetch_add(1, Ordering::Relaxed) % body.len();
            Reply::new(200, content_type, body.slice(..cut))
        });
        let source = server.source(wire);
        for _ in 0..len {
            let error = get(&source).await.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::Malformed, "{error}");
            assert!(error.is_retryable());
        }
    }
}

#[test]
fn damaged_bodies_never_panic() {
    let mut rng = fastrand::Rng::with_seed(7);
    for target in ["json_answer", "cbor_answer", "error_body"] {
        let bodies = corpus(target);
        for (_, body) in &bodies {
            both(body);
            for _ in 0..DAMAGES {
                let (_, other) = &bodies[rng.usize(..bodies.len())];
                both(&damaged(body, other, &mut rng));
            }
        }
    }
}

/// Nothing of a subscription is read that did not come whole.
#[test]
fn subscriptions_of_the_corpus_are_whole_and_no_part_of_one_is_more() {
    for (path, stream) in corpus("event_stream") {
        let whole = by_us(&stream, 64);
        assert_ne!(whole.end, Ending::Broken, "{path:?}");
        // Every byte of a small one.
        for cut in (0..stream.len()).step_by(stream.len() / 1_000 * 5 + 1) {
            let part = by_us(&stream[..cut], 64);
            assert!(
                whole.events.starts_with(&part.events),
                "{path:?} cut at {cut}"
            );
            assert!(
                !matches!(part.end, Ending::Exception(..)),
                "{path:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn damaged_subscriptions_never_panic() {
    let mut rng = fastrand::Rng::with_seed(8);
    let streams = corpus("event_stream");
    for (_, stream) in &streams {
        for _ in 0..DAMAGES {
            let (_, other) = &streams[rng.usize(..streams.len())];
            let damaged = damaged(stream, other, &mut rng);
            by_us(&damaged, 300);
            by_us(&with_right_checksums(damaged), 300);
        }
    }
}

/// A body with a few faults: bytes changed, taken out or put in twice, cut, or going on as another one.
fn damaged(body: &[u8], other: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut damaged = body.to_vec();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..=damaged.len());
        let end = rng.usize(at..=damaged.len().min(at + 20));
        match rng.u8(..6) {
            0 => damaged.truncate(at),
            1 => drop(damaged.drain(at..end)),
            2 => {
                let twice = damaged[at..end].to_vec();
                damaged.splice(at..at, twice);
            }
            3 => {
                damaged.truncate(at);
                damaged.extend_from_slice(&other[rng.usize(..=other.len())..]);
            }
            // What lengths, tags and brackets are made of.
            4 => damaged.insert(
                at,
                *rng.choice(b"\"\\{}[],:\x00\x18\x5b\x5f\x7f\x9b\x9f\xbb\xbf\xff")
                    .unwrap(),
            ),
            _ => {
                if let Some(byte) = damaged.get_mut(at) {
                    *byte = rng.u8(..);
                }
            }
        }
    }
    damaged
}
