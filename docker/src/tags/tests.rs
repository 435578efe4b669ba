use proptest::prelude::*;

use super::*;

/// The names that balancers take if nothing else is said.
pub(crate) fn names() -> Names {
    let details = [
        Key::Host,
        Key::Path,
        Key::Weight,
        Key::State,
        Key::Proto,
        Key::Backup,
    ];
    Names {
        services: "svc".to_owned(),
        details: details
            .into_iter()
            .map(|key| (key, key.as_str().to_owned()))
            .collect(),
    }
}

fn place(text: &str) -> Place {
    read(text).into_iter().next().unwrap()
}

fn instance(text: &str, age: i64, details: &[(Key, &str)]) -> Instance {
    Instance {
        place: place(text),
        details: details
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect(),
        age: (age, format!("{age:04}")),
    }
}

fn seen(instances: Vec<Instance>) -> Vec<Seen> {
    let each = instances.into_iter().map(|it| Seen {
        id: it.age.1.clone(),
        name: it.age.1.clone(),
        services: vec![(Some(it.place.service.clone()), Ok(it))],
    });
    each.collect()
}

fn shown(tags: &Tags) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let each = tags
        .iter()
        .map(|(tag, value)| format!("{}={}", text(tag), text(value)));
    each.collect::<Vec<_>>().join(" ")
}

fn tags_of(pairs: &[(&str, &str)]) -> Tags {
    pairs
        .iter()
        .map(|(tag, value)| ((*tag).into(), (*value).into()))
        .collect()
}

fn reasons(seen: &[Seen]) -> Vec<String> {
    let services = seen.iter().flat_map(|it| &it.services);
    services
        .map(|(_, it)| {
            it.as_ref()
                .map_or_else(|it| it.word().to_owned(), |it| it.place.to_string())
        })
        .collect()
}

#[test]
fn entries_say_no_more_than_they_have_to() {
    let written = |text: &str| write(&read(text));
    assert_eq!(
        written("shop:32769,api:4000@172.18.0.5,shop:32768"),
        "api:4000@172.18.0.5,shop:32768,32769"
    );
    assert_eq!(
        written(
            "a:80@10.0.0.1,a:80@10.0.0.2,a:80@10.1.0.2,a:81@10.1.0.2,a:90,b:80@[fd00::1],b:80@[fd00::2]"
        ),
        "a:90,80@10.0.0.1,@.2,@10.1.0.2,81@.2,b:80@[fd00::1],@[fd00::2]"
    );
    assert_eq!(write(&BTreeSet::new()), "");
}

#[test]
fn what_cannot_be_read_is_nobody() {
    for text in [
        "",
        ",",
        "80",
        "@10.0.0.1",
        "shop",
        "shop:0",
        "shop:80@.5",
        "shop:80@x",
        "shop:80@[1",
        "a b:80",
        "shop:99999",
    ] {
        assert!(read(text).is_empty(), "{text}");
    }
    // An entry goes on with the one before it, and with none where that is none.
    assert_eq!(read("shop:80,x y:1,81,api:1").len(), 2);
}

#[test]
fn tags_say_what_most_say_and_else_the_oldest() {
    let instances = [
        instance("shop:1", 1, &[(Key::Host, "a"), (Key::Weight, "5")]),
        instance("shop:2", 2, &[(Key::Host, "b"), (Key::Weight, "5")]),
        instance("shop:3", 3, &[(Key::Host, "b"), (Key::Backup, "1")]),
        instance("api:4", 4, &[(Key::Host, "y"), (Key::Path, "/v1")]),
        instance("api:5", 5, &[(Key::Host, "x"), (Key::Proto, "h2")]),
    ];
    let all: Vec<_> = instances.iter().collect();
    let tags = tags(&all, &names());
    assert_eq!(
        shown(&tags),
        "backup.shop:3=1 host.api=y host.shop=b path.api=/v1 svc=api:4,5,shop:1,2,3 weight.shop=5 weight.shop:3=1"
    );
    assert_eq!(overruled(&instances[0], &tags, &names()), [Key::Host]);
    assert_eq!(overruled(&instances[2], &tags, &names()), []);
    assert_eq!(
        overruled(&instances[4], &tags, &names()),
        [Key::Host, Key::Path, Key::Proto]
    );
}

#[test]
fn who_claims_a_host_of_another_service_is_left_out() {
    let mut all = seen(vec![
        instance("shop:1", 1, &[(Key::Host, "shop.example.com")]),
        instance("evil:2", 2, &[(Key::Host, "shop.example.com")]),
        instance("evil:3", 3, &[(Key::Host, "evil.example.com")]),
        instance(
            "api:4",
            4,
            &[(Key::Host, "shop.example.com"), (Key::Path, "/api")],
        ),
    ]);
    let chosen = choose(&mut all, &BTreeSet::new(), &Tags::new(), &names());
    assert_eq!(reasons(&all), ["shop:1", "conflict", "evil:3", "api:4"]);
    assert_eq!(
        shown(&chosen.tags),
        "host.api=shop.example.com host.evil=evil.example.com host.shop=shop.example.com path.api=/api svc=api:4,evil:3,shop:1"
    );
}

#[test]
fn who_is_not_to_be_ready_is_out_while_others_are() {
    let mut all = seen(vec![
        instance("shop:1", 1, &[]),
        instance("shop:2", 2, &[(Key::State, "maint")]),
    ]);
    choose(&mut all, &BTreeSet::new(), &Tags::new(), &names());
    assert_eq!(reasons(&all), ["shop:1", "state"]);
    let mut all = seen(vec![instance("shop:2", 2, &[(Key::State, "maint")])]);
    let chosen = choose(&mut all, &BTreeSet::new(), &Tags::new(), &names());
    assert_eq!(shown(&chosen.tags), "state.shop=maint svc=shop:2");
}

#[test]
fn a_node_has_room_for_more_than_sixty_and_who_comes_last_is_left_out() {
    for (of, most) in [("shop:{port}", 83), ("shop:3000@172.18.{third}.{last}", 98)] {
        let one = |n: usize| {
            let place = of.replace("{port}", &(32768 + n).to_string());
            let place = place
                .replace("{third}", "0")
                .replace("{last}", &(n + 2).to_string());
            instance(&place, i64::try_from(n).unwrap(), &[])
        };
        let mut all = seen((0..120).map(one).collect());
        let chosen = choose(&mut all, &BTreeSet::new(), &Tags::new(), &names());
        assert!(
            chosen.bytes <= LIMIT && chosen.bytes > LIMIT - 10,
            "{}",
            chosen.bytes
        );
        assert_eq!(chosen.places.len(), most, "{of}");
        let out: Vec<_> = reasons(&all).into_iter().skip(most).collect();
        assert!(out.iter().all(|it| it == "room"), "{out:?}");

        // Whoever is in them stays, though an older one comes.
        let mut all: Vec<Seen> = seen((0..120).map(one).collect());
        all[0].services[0].1 = Err(Reason::Unhealthy);
        let without = choose(&mut all, &chosen.places, &Tags::new(), &names());
        assert!(without.places.len() >= most - 1);
        let mut all = seen((0..120).map(one).collect());
        let again = choose(&mut all, &without.places, &Tags::new(), &names());
        assert!(again.places.is_superset(&without.places), "{of}");
    }
}

#[test]
fn others_tags_take_of_the_room_and_are_left_alone() {
    let others_tags = tags_of(&[
        ("role", "web"),
        ("text", &"x".repeat(400)),
        ("host.db", "db.example.com"),
        ("hostage", "1"),
    ]);
    let mut node = others_tags.clone();
    node.extend(tags_of(&[
        ("svc", "shop:1,2"),
        ("host.shop", "a"),
        ("weight.shop:2", "3"),
        ("weight.db:1", "3"),
    ]));
    let of_ours: Vec<_> = ours(&node, &names())
        .into_iter()
        .map(|tag| String::from_utf8(tag).unwrap())
        .collect();
    assert_eq!(of_ours, ["host.shop", "svc", "weight.shop:2"]);
    let others = others(&node, &names());
    assert_eq!(others.len(), 5);
    let mut all = seen(
        (1..60)
            .map(|n| instance(&format!("shop:{}", 30_000 + n), n, &[]))
            .collect(),
    );
    let chosen = choose(&mut all, &BTreeSet::new(), &others, &names());
    assert!(chosen.places.len() < 20 && chosen.bytes <= LIMIT);
    assert_eq!(
        change(
            &node,
            &tags_of(&[
                ("svc", "shop:1,2"),
                ("host.shop", "a"),
                ("weight.shop:2", "3")
            ]),
            &names()
        ),
        None
    );
    let gone = change(&node, &Tags::new(), &names()).unwrap();
    assert_eq!(
        format!("{gone:?}"),
        format!(
            "{:?}",
            TagChange::new()
                .delete("host.shop")
                .delete("svc")
                .delete("weight.shop:2")
        )
    );
}

fn any_place() -> impl Strategy<Value = Place> {
    let addr = prop_oneof![
        Just(None),
        (0..3_u8, 1..5_u8).prop_map(|(c, d)| Some(std::net::IpAddr::from([172, 18, c, d]))),
        any::<u16>().prop_map(|n| Some(std::net::IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]))),
    ];
    let service = "[a-z][a-z0-9._-]{0,6}";
    (service, addr, prop_oneof![1..5_u16, 1..=u16::MAX]).prop_map(|(service, addr, port)| Place {
        service: BackendName::new(service).unwrap(),
        addr,
        port,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(places in prop::collection::btree_set(any_place(), 0..40)) {
        let text = write(&places);
        prop_assert_eq!(read(&text), places, "{}", text);
    }

    #[test]
    fn any_text_is_places_or_is_not(text in any::<String>(), alike in "[a-c0-9:@.,\\[\\] ]{0,60}") {
        for text in [text, alike] {
            let places = read(&text);
            prop_assert_eq!(read(&write(&places)), places);
        }
    }

    #[test]
    fn whatever_there_is_fits_and_nobody_in_is_put_out_for_another(
        instances in prop::collection::btree_map(
            any_place(),
            (0..9_i64, prop::option::of("[a-z]{1,20}"), prop::option::of("[2-9]")),
            0..150,
        ),
        keep in any::<u64>(),
        others_len in 0..300_usize,
    ) {
        let others = tags_of(&[("other", &"x".repeat(others_len))]);
        let each = instances.into_iter().enumerate().map(|(n, (place, (age, host, weight)))| {
            let details = host.map(|it| (Key::Host, it)).into_iter().chain(weight.map(|it| (Key::Weight, it)));
            Instance { place, details: details.collect(), age: (age, format!("{n}")) }
        });
        let all = seen(each.collect());
        let mut first: Vec<Seen> = all.iter().enumerate().filter(|(n, _)| keep >> (n % 64) & 1 == 1).map(|(_, it)| it.clone()).collect();
        let one = choose(&mut first, &BTreeSet::new(), &others, &names());
        prop_assert!(one.bytes <= LIMIT);
        prop_assert_eq!(one.bytes, size(others.iter().chain(&one.tags)));
        prop_assert_eq!(&places(&one.tags, &names()), &one.places);
        // All that is written is known as ours afterwards.
        let node: Tags = others.iter().chain(&one.tags).map(|(a, b)| (a.clone(), b.clone())).collect();
        prop_assert_eq!(super::others(&node, &names()), others.clone());
        prop_assert_eq!(change(&node, &one.tags, &names()), None);
        let again = choose(&mut first.clone(), &one.places, &others, &names());
        prop_assert_eq!(&again.places, &one.places);
    }
}
