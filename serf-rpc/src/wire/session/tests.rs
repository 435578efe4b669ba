use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::recordings::{CONNECTION, Player, Seen, fixture, fixtures, play};

/// The first header's sequence number of a recorded reply.
fn first_seq(reply: &[u8]) -> u64 {
    let end = crate::wire::framing::Scanner::new(crate::recordings::LIMITS)
        .next_end(reply)
        .unwrap()
        .unwrap();
    Header::decode(&reply[..end]).unwrap().seq
}

/// What each recorded command is answered with.
fn shape_of(fixture: &str) -> ResponseShape {
    let (_, name) = fixture.split_once('/').unwrap();
    let starts = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    if starts(&["query"]) {
        ResponseShape::RecordsUntilDone
    } else if starts(&["monitor", "stream"]) {
        ResponseShape::Records
    } else if starts(&[
        "join",
        "members",
        "install-key",
        "use-key",
        "remove-key",
        "list-keys",
        "stats",
        "coord",
    ]) {
        ResponseShape::Body
    } else {
        ResponseShape::Header
    }
}

/// All recorded replies, with the number and shape of the request, but those without any reply and
/// the one that an agent gives twice.
fn replies() -> Vec<(String, Vec<u8>, u64, ResponseShape)> {
    fixtures(".resp.bin")
        .into_iter()
        .filter(|(name, bytes)| !bytes.is_empty() && !name.ends_with("preauth-event"))
        .map(|(name, bytes)| {
            let (seq, shape) = (first_seq(&bytes), shape_of(&name));
            (name, bytes, seq, shape)
        })
        .collect()
}

#[test]
fn every_recorded_reply_follows_the_rule_of_bodies() {
    for (name, bytes, seq, shape) in replies() {
        let seen = play([&bytes[..]], seq, shape).unwrap_or_else(|error| panic!("{name}: {error}"));
        let Some(Seen::Response {
            seq: answered,
            error,
            body,
        }) = seen.first()
        else {
            panic!("{name}: {seen:?}");
        };
        assert_eq!(*answered, seq, "{name}");
        assert_eq!(
            !body.is_empty(),
            shape.body_follows(error.as_ref().map(AsRef::as_ref)),
            "{name}"
        );
        assert!(
            seen[1..]
                .iter()
                .all(|seen| !matches!(seen, Seen::Response { .. })),
            "{name}"
        );
        let records = matches!(
            shape,
            ResponseShape::Records | ResponseShape::RecordsUntilDone
        );
        assert!(seen.len() == 1 || records, "{name}");
    }
}

#[test]
fn every_recorded_reply_may_be_split_anywhere() {
    for (name, bytes, seq, shape) in replies() {
        let whole = play([&bytes[..]], seq, shape);
        // The long ones are logs, whose lines are all alike.
        for cut in 0..bytes.len().min(1500) {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(play([head, tail], seq, shape), whole, "{name} at {cut}");
        }
        assert_eq!(
            play(bytes.chunks(1), seq, shape),
            whole,
            "{name} byte by byte"
        );
    }
}

#[test]
fn every_recorded_event_follows_its_acknowledgement() {
    let ack = fixture("0.9.4", "stream-ack.resp.bin");
    for (name, event) in fixtures(".bin")
        .into_iter()
        .filter(|(name, _)| name.contains("/ev-"))
    {
        let whole = play([&ack[..], &event[..]], 1, ResponseShape::Records).unwrap();
        assert!(
            matches!(
                whole[..],
                [Seen::Response { .. }, Seen::Record { seq: 1, .. }]
            ),
            "{name}"
        );
        let bytes = [&ack[..], &event[..]].concat();
        assert_eq!(
            play(bytes.chunks(1), 1, ResponseShape::Records).unwrap(),
            whole,
            "{name}"
        );
    }
}

#[test]
fn the_second_refusal_of_one_request_ends_the_session() {
    let twice = fixture("0.9.4", "preauth-event.resp.bin");
    let mut player = Player::new();
    player.begin(ResponseShape::Header);
    player.begin(ResponseShape::Header);
    assert_eq!(
        player.feed(&twice),
        Err(ProtocolError::UnknownSeq { seq: 1 })
    );
    let refused = Some("Authentication required".into());
    assert_eq!(
        player.seen,
        [Seen::Response {
            seq: 1,
            error: refused,
            body: Bytes::new()
        }]
    );
}

fn header(seq: u8) -> Vec<u8> {
    [b"\x82\xa5Error\xa0\xa3Seq".as_slice(), &[seq]].concat()
}

const BODY: &[u8] = b"\x81\xa3Num\x07";

#[test]
fn a_body_where_a_header_is_due_ends_the_session() {
    let mut player = Player::new();
    player.begin(ResponseShape::Header);
    assert_eq!(
        player.feed(&[&header(0), BODY].concat()),
        Err(ProtocolError::HeaderExpected)
    );
}

#[test]
fn a_header_where_a_body_is_due_ends_the_session() {
    let mut player = Player::new();
    player.begin(ResponseShape::Body);
    let error = player.feed(&[header(0), header(0)].concat());
    assert_eq!(error, Err(ProtocolError::BodyExpected { seq: 0 }));
}

#[test]
fn a_refused_stream_does_not_exist() {
    let mut player = Player::new();
    player.begin(ResponseShape::Records);
    player.feed(b"\x82\xa5Error\xa2no\xa3Seq\x00").unwrap();
    assert!(player.is_settled());
    assert_eq!(
        player.feed(&header(0)),
        Err(ProtocolError::UnknownSeq { seq: 0 })
    );
}

#[test]
fn what_nobody_sent_takes_no_place_in_a_querys_queue() {
    let of_nobody = b"\x83\xa4From\xa0\xa7Payload\xc0\xa4Type\xa8response";
    let answer = b"\x82\xa4From\xa1a\xa4Type\xa3ack";
    let mut player = Player::new();
    player.begin(ResponseShape::RecordsUntilDone);
    player.feed(&header(0)).unwrap();
    let before = player.seen.len();
    for _ in 0..2000 {
        player.feed(&[&header(0), &of_nobody[..]].concat()).unwrap();
    }
    player.feed(&[&header(0), &answer[..]].concat()).unwrap();
    assert_eq!(player.seen.len(), before + 1);
}

#[test]
fn a_query_is_forgotten_when_it_is_done_and_not_before() {
    let ack = b"\x82\xa4From\xa1a\xa4Type\xa3ack";
    let done = b"\x82\xa4From\xa0\xa4Type\xa4done";
    let mut player = Player::new();
    player.begin(ResponseShape::RecordsUntilDone);
    player.begin(ResponseShape::Records);
    player.feed(&[header(0), header(1)].concat()).unwrap();
    for seq in [0, 1, 0] {
        player.feed(&[&header(seq), &ack[..]].concat()).unwrap();
    }
    player.feed(&[&header(1), &done[..]].concat()).unwrap();
    player.feed(&[&header(1), &ack[..]].concat()).unwrap();
    player.feed(&[&header(0), &done[..]].concat()).unwrap();
    assert_eq!(player.seen.len(), 8);
    assert_eq!(
        player.feed(&header(0)),
        Err(ProtocolError::UnknownSeq { seq: 0 })
    );
}

#[test]
fn records_after_a_confirmed_stop_still_belong_to_the_stream() {
    let mut player = Player::new();
    player.begin(ResponseShape::Records);
    player.feed(&header(0)).unwrap();
    let stop = player.begin(ResponseShape::Header);
    let record = [&header(0), BODY].concat();
    player
        .feed(&[&record[..], &header(1), &record, &record].concat())
        .unwrap();
    let (seq, body) = (0, Bytes::from_static(BODY));
    let record = Seen::Record { seq, body };
    let stopped = Seen::Response {
        seq: stop,
        error: None,
        body: Bytes::new(),
    };
    assert_eq!(
        player.seen[1..],
        [record.clone(), stopped, record.clone(), record]
    );
    assert!(player.is_settled());
}

/// One thing that an agent sends: the answer to the next open call, or a record of a stream.
#[derive(Clone, Debug)]
enum Sent {
    Call { shape: ResponseShape, refused: bool },
    Record { stream: usize },
    Done { query: usize },
}

fn sent() -> impl Strategy<Value = Sent> {
    let shape = prop_oneof![
        Just(ResponseShape::Header),
        Just(ResponseShape::Body),
        Just(ResponseShape::Records),
        Just(ResponseShape::RecordsUntilDone)
    ];
    prop_oneof![
        (shape, any::<bool>()).prop_map(|(shape, refused)| Sent::Call { shape, refused }),
        (0..8_usize).prop_map(|stream| Sent::Record { stream }),
        (0..8_usize).prop_map(|query| Sent::Done { query }),
    ]
}

/// The bytes of a conversation, what was asked, and what is to be seen of it.
fn conversation(script: &[Sent]) -> (Vec<ResponseShape>, Vec<u8>, Vec<Seen>) {
    let (mut asked, mut bytes, mut expected, mut streams) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (number, sent) in script.iter().enumerate() {
        let body = Bytes::from(
            [
                b"\x81\xa3Num\xcd".as_slice(),
                &u16::try_from(number).unwrap().to_be_bytes(),
            ]
            .concat(),
        );
        match sent {
            Sent::Call { shape, refused } => {
                let seq = asked.len() as u64;
                asked.push(*shape);
                let error = if *refused { "refused" } else { "" };
                let mut value = rmpv::Value::Map(vec![
                    ("Error".into(), error.into()),
                    ("Seq".into(), seq.into()),
                ]);
                if number % 2 == 0 {
                    let rmpv::Value::Map(pairs) = &mut value else {
                        unreachable!()
                    };
                    pairs.reverse();
                }
                rmpv::encode::write_value(&mut bytes, &value).unwrap();
                let body = if *shape == ResponseShape::Body {
                    body
                } else {
                    Bytes::new()
                };
                bytes.extend_from_slice(&body);
                let query = *shape == ResponseShape::RecordsUntilDone;
                if (query || *shape == ResponseShape::Records) && !refused {
                    streams.push((seq, query));
                }
                expected.push(Seen::Response {
                    seq,
                    error: refused.then(|| error.into()),
                    body,
                });
            }
            Sent::Record { stream } => {
                let Some(&(seq, _)) = streams.get(*stream) else {
                    continue;
                };
                bytes.extend(header(u8::try_from(seq).unwrap()));
                bytes.extend_from_slice(&body);
                expected.push(Seen::Record { seq, body });
            }
            Sent::Done { query } => {
                let Some(&(seq, true)) = streams.get(*query) else {
                    continue;
                };
                streams.remove(*query);
                bytes.extend(header(u8::try_from(seq).unwrap()));
                bytes.extend_from_slice(b"\x82\xa4From\xa0\xa4Type\xa4done");
                expected.push(Seen::End { seq });
            }
        }
    }
    (asked, bytes, expected)
}

proptest! {
    #[test]
    fn any_interleaving_in_any_chunks_is_told_apart(
        script in prop::collection::vec(sent(), 0..60),
        sizes in prop::collection::vec(1..40_usize, 1..50),
    ) {
        let (asked, bytes, expected) = conversation(&script);
        let mut player = Player::new();
        for shape in asked {
            player.begin(shape);
        }
        let mut rest = &bytes[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, behind) = rest.split_at((*size).min(rest.len()));
            player.feed(chunk).unwrap();
            rest = behind;
        }
        prop_assert!(player.is_settled());
        prop_assert_eq!(player.seen, expected);
    }

    #[test]
    fn mutated_bytes_give_an_error_or_a_result_and_never_more_than_came(
        pick in any::<prop::sample::Index>(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        chunk in 1..200_usize,
    ) {
        let all = replies();
        let (_, mut bytes, seq, shape) = all[pick.index(all.len())].clone();
        for (at, byte) in mutations {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut player = Player::new();
        player.skip_to(seq);
        player.begin(shape);
        for chunk in bytes.chunks(chunk) {
            if player.feed(chunk).is_err() {
                break;
            }
        }
        let kept: usize = player.seen.iter().map(|seen| match seen {
            Seen::Response { body, .. } | Seen::Record { body, .. } => body.len(),
            Seen::End { .. } => 0,
        }).sum();
        prop_assert!(kept <= bytes.len());
        for seen in &player.seen {
            let (Seen::Response { body, .. } | Seen::Record { body, .. }) = seen else {
                continue;
            };
            let _ = <crate::Event as crate::types::Record>::decode(body, CONNECTION);
            let _ = <Vec<crate::Member> as crate::command::Response>::decode(body);
            let _ = <crate::KeyReply as crate::command::Response>::decode(body);
            let _ = <Option<crate::Coordinate> as crate::command::Response>::decode(body);
            let _ = <crate::LogEntry as crate::types::Record>::decode(body, CONNECTION);
            let _ = <crate::types::QueryRecord as crate::types::Record>::decode(body, CONNECTION);
        }
    }
}

#[test]
fn of_the_streams_that_were_stopped_the_latest_are_remembered() {
    let mut session: Session<(), ()> = Session::new();
    let header = |seq: u64| {
        let pairs = vec![("Error".into(), "".into()), ("Seq".into(), seq.into())];
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(pairs)).unwrap();
        bytes
    };
    let rounds = u64::try_from(MOST_RETIRED).unwrap() + 10;
    for _ in 0..rounds {
        let stream = session.begin_stream(ResponseShape::Records, (), ());
        session.accept(&header(stream)).unwrap();
        let stop = session.begin_stop(ResponseShape::Header, (), stream);
        session.accept(&header(stop)).unwrap();
    }
    assert_eq!(session.open.len(), 0);
    assert_eq!(session.retired.len(), MOST_RETIRED);
    let last = header((rounds - 1) * 2);
    assert!(session.accept(&last).unwrap().is_none());
    assert!(session.accept(b"\x81\xa5Event\xa4user").unwrap().is_none());
    let first = header(0);
    let first = session.accept(&first);
    assert!(matches!(first, Err(ProtocolError::UnknownSeq { seq: 0 })));
}
