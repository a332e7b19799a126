//! Random answers, and ways to write them down.

use proptest::prelude::*;

use super::super::cbor_head::Head;

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) sequence_number: String,
    pub(super) data: Vec<u8>,
    pub(super) partition_key: Option<String>,
    pub(super) arrival_millis: Option<i64>,
    pub(super) encryption: Option<&'static str>,
}

#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) id: String,
    pub(super) parents: Vec<String>,
    pub(super) start: u128,
}

/// How an answer is written down.
#[derive(Debug, Clone)]
pub(super) struct Style {
    /// JSON: all that can be escaped is. CBOR: strings come in pieces.
    pub(super) elaborate: bool,
    /// JSON: space between tokens. CBOR: lists and objects without a length.
    pub(super) loose: bool,
    /// The order of members.
    pub(super) turned: usize,
    /// With members that nobody knows, and null for what is absent.
    pub(super) padded: bool,
    /// How times are written.
    pub(super) time: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Generated {
    pub(super) records: Vec<Record>,
    pub(super) next: Option<String>,
    pub(super) behind_millis: Option<i64>,
    pub(super) children: Option<Vec<Child>>,
    pub(super) style: Style,
}

fn record() -> impl Strategy<Value = Record> {
    let data = prop_oneof![
        19 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 2_000..3_000),
    ];
    let key = prop::option::of(prop_oneof!["\\PC{1,40}", any::<String>(), "[a-z]{256}"]);
    let arrival = prop::option::of(0_i64..4_000_000_000_000);
    let encryption = prop::option::of(prop::sample::select(vec!["NONE", "KMS", "NEW"]));
    (data, key, arrival, encryption).prop_map(
        |(data, partition_key, arrival_millis, encryption)| Record {
            sequence_number: String::new(),
            data,
            partition_key,
            arrival_millis,
            encryption,
        },
    )
}

fn child() -> impl Strategy<Value = Child> {
    let parents = prop::collection::vec("shardId-[0-9]{12}", 0..3);
    ("shardId-[0-9]{12}", parents, any::<u128>()).prop_map(|(id, parents, start)| Child {
        id,
        parents,
        start,
    })
}

fn style() -> impl Strategy<Value = Style> {
    let flags = any::<(bool, bool, bool)>();
    (flags, 0_usize..8, 0_usize..3).prop_map(|((elaborate, loose, padded), turned, time)| Style {
        elaborate,
        loose,
        turned,
        padded,
        time,
    })
}

pub(super) fn answer() -> impl Strategy<Value = Generated> {
    (
        prop::collection::vec(record(), 0..8),
        "[1-9][0-9]{0,50}",
        prop::option::of("[ -~]{1,60}"),
        prop::option::of(0_i64..1 << 50),
        prop::option::of(prop::collection::vec(child(), 0..3)),
        style(),
    )
        .prop_map(
            |(mut records, first, next, behind_millis, children, style)| {
                for (index, record) in records.iter_mut().enumerate() {
                    record.sequence_number = format!("{first}{index:05}");
                }
                Generated {
                    records,
                    next,
                    behind_millis,
                    children,
                    style,
                }
            },
        )
}

impl Generated {
    pub(super) fn json(&self) -> Vec<u8> {
        let style = &self.style;
        let text = |text: &str| style.text(text);
        let records = self.records.iter().map(|record| {
            let data = base64_simd::STANDARD.encode_to_string(&record.data);
            style.object(vec![
                ("SequenceNumber", Some(text(&record.sequence_number))),
                ("Data", Some(text(&data))),
                ("PartitionKey", record.partition_key.as_deref().map(text)),
                (
                    "ApproximateArrivalTimestamp",
                    record.arrival_millis.map(|millis| style.time(millis)),
                ),
                ("EncryptionType", record.encryption.map(text)),
            ])
        });
        let children = self.children.as_ref().map(|children| {
            let children = children.iter().map(|child| {
                let parents = child.parents.iter().map(|parent| text(parent));
                let range = style.object(vec![
                    ("StartingHashKey", Some(text(&child.start.to_string()))),
                    ("EndingHashKey", Some(text(&u128::MAX.to_string()))),
                ]);
                style.object(vec![
                    ("ShardId", Some(text(&child.id))),
                    ("ParentShards", Some(style.list(parents))),
                    ("HashKeyRange", Some(range)),
                ])
            });
            style.list(children)
        });
        let members = vec![
            ("Records", Some(style.list(records))),
            ("NextShardIterator", self.next.as_deref().map(text)),
            (
                "MillisBehindLatest",
                self.behind_millis.map(|millis| millis.to_string()),
            ),
            ("ChildShards", children),
        ];
        let space = style.space();
        format!("{space}{}{space}", style.object(members)).into_bytes()
    }

    pub(super) fn cbor(&self) -> Vec<u8> {
        let style = &self.style;
        let text = |text: &str| style.string(3, text.as_bytes());
        let records = self.records.iter().map(|record| {
            style.map(vec![
                ("SequenceNumber", Some(text(&record.sequence_number))),
                ("Data", Some(style.string(2, &record.data))),
                ("PartitionKey", record.partition_key.as_deref().map(text)),
                (
                    "ApproximateArrivalTimestamp",
                    record.arrival_millis.map(|millis| style.cbor_time(millis)),
                ),
                ("EncryptionType", record.encryption.map(text)),
            ])
        });
        let children = self.children.as_ref().map(|children| {
            let children = children.iter().map(|child| {
                let parents = child.parents.iter().map(|parent| text(parent));
                let range = style.map(vec![
                    ("StartingHashKey", Some(text(&child.start.to_string()))),
                    ("EndingHashKey", Some(text(&u128::MAX.to_string()))),
                ]);
                style.map(vec![
                    ("ShardId", Some(text(&child.id))),
                    (
                        "ParentShards",
                        Some(style.container(4, &parents.collect::<Vec<_>>())),
                    ),
                    ("HashKeyRange", Some(range)),
                ])
            });
            style.container(4, &children.collect::<Vec<_>>())
        });
        style.map(vec![
            (
                "Records",
                Some(style.container(4, &records.collect::<Vec<_>>())),
            ),
            ("NextShardIterator", self.next.as_deref().map(text)),
            ("MillisBehindLatest", self.behind_millis.map(number)),
            ("ChildShards", children),
        ])
    }
}

/// JSON.
impl Style {
    fn space(&self) -> &'static str {
        if self.loose { " \n\t\r" } else { "" }
    }

    fn text(&self, text: &str) -> String {
        let quoted = serde_json::to_string(text).unwrap();
        if !self.elaborate {
            return quoted;
        }
        let escape = |unit: &u16| format!("\\u{unit:04x}");
        let escaped = quoted.chars().map(|character| match character {
            '/' => "\\/".to_owned(),
            ascii if ascii.is_ascii() => ascii.to_string(),
            other => other.encode_utf16(&mut [0; 2]).iter().map(escape).collect(),
        });
        escaped.collect()
    }

    fn time(&self, millis: i64) -> String {
        let (seconds, rest) = (millis / 1000, millis % 1000);
        match self.time {
            0 if rest == 0 => seconds.to_string(),
            1 if millis > 1_000_000_000_000 => {
                let digits = millis.to_string();
                let (first, others) = digits.split_at(1);
                format!("{first}.{others}E9")
            }
            _ => format!("{seconds}.{rest:03}"),
        }
    }

    fn object(&self, members: Vec<(&str, Option<String>)>) -> String {
        let space = self.space();
        let mut members: Vec<String> = members
            .into_iter()
            .filter(|(_, value)| self.padded || value.is_some())
            .map(|(name, value)| {
                let value = value.unwrap_or_else(|| "null".to_owned());
                format!("{space}\"{name}\"{space}:{space}{value}{space}")
            })
            .collect();
        if self.padded {
            let unknown = r#""New":{"a":[1,-2.5e3,"x\"y\\",null,true,{"b":[],"c":{}}]}"#;
            members.push(unknown.to_owned());
        }
        let turned = self.turned % members.len();
        members.rotate_left(turned);
        format!("{{{}}}", members.join(","))
    }

    fn list(&self, items: impl Iterator<Item = String>) -> String {
        let items: Vec<String> = items.collect();
        let space = self.space();
        format!("[{space}{}]", items.join(&format!("{space},{space}")))
    }
}

/// CBOR.
impl Style {
    fn string(&self, kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // Pieces of texts are texts themselves.
        let cut = (1..bytes.len()).find(|cut| {
            let (first, second) = bytes.split_at(*cut);
            kind == 2 || (str::from_utf8(first).is_ok() && str::from_utf8(second).is_ok())
        });
        match cut {
            Some(cut) if self.elaborate => {
                out.push(kind << 5 | 31);
                for piece in [&bytes[..cut], &[], &bytes[cut..]] {
                    Head::write(&mut out, kind, piece.len() as u64);
                    out.extend_from_slice(piece);
                }
                out.push(0xff);
            }
            _ => {
                Head::write(&mut out, kind, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
        out
    }

    fn cbor_time(&self, millis: i64) -> Vec<u8> {
        match self.time {
            0 => number(millis),
            1 => {
                let mut out = vec![0xc1, 0xfb];
                out.extend_from_slice(&(millis as f64).to_be_bytes());
                out
            }
            _ => [vec![0xc1], number(millis)].concat(),
        }
    }

    fn map(&self, members: Vec<(&str, Option<Vec<u8>>)>) -> Vec<u8> {
        let mut members: Vec<Vec<u8>> = members
            .into_iter()
            .filter(|(_, value)| self.padded || value.is_some())
            .map(|(name, value)| {
                let value = value.unwrap_or_else(|| vec![0xf6]);
                [self.string(3, name.as_bytes()), value].concat()
            })
            .collect();
        if self.padded {
            // {"New": [1, [null], {_ "a": 1.0}, 1(false)]}
            let unknown = b"\x63New\x84\x01\x81\xf6\xbf\x61a\xf9\x3c\x00\xff\xc1\xf4";
            members.push(unknown.to_vec());
        }
        let turned = self.turned % members.len();
        members.rotate_left(turned);
        self.container(5, &members)
    }

    fn container(&self, kind: u8, items: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        if self.loose {
            out.push(kind << 5 | 31);
        } else {
            Head::write(&mut out, kind, items.len() as u64);
        }
        out.extend(items.concat());
        if self.loose {
            out.push(0xff);
        }
        out
    }
}

fn number(number: i64) -> Vec<u8> {
    let mut out = Vec::new();
    Head::write(&mut out, 0, number.unsigned_abs());
    out
}
