use proptest::prelude::*;

use super::*;

const RECORDED: [(&str, &str); 3] = [
    ("2.6", include_str!("recorded/state-2.6.txt")),
    ("3.0", include_str!("recorded/state-3.0.txt")),
    ("3.2", include_str!("recorded/state-3.2.txt")),
];

const HEADER: &str =
    "# be_id be_name srv_id srv_name srv_addr srv_admin_state srv_uweight srv_port";

#[test]
fn every_version_says_who_it_is_and_what_it_runs() {
    for (version, text) in RECORDED {
        let State {
            worker, servers, ..
        } = state(text, true).unwrap();
        assert_eq!(worker.version.to_string(), version);
        assert_eq!(worker.stamp, Some(Stamp("0123456789abcdef".into())));
        assert!(worker.pid > 1 && worker.uptime > Duration::ZERO);
        assert!(worker.start > Some(1_700_000_000), "{worker:?}");
        assert_eq!(servers.keys().collect::<Vec<_>>(), ["nodes"], "{version}");
        let shown: Vec<String> = servers["nodes"]
            .iter()
            .map(|(name, server)| {
                let addr = server.addr.map_or("-".into(), |addr| addr.to_string());
                let stat = server.stat.as_ref().unwrap();
                format!(
                    "{name} {addr} {} {:?} {:?} {:?}",
                    server.weight, server.admin, stat.check, stat.maxconn
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "added 127.12.0.20:3000 1 Drain Pending None",
                "down 127.12.0.21:3000 7 Ready Down None",
                "never 127.12.0.20:3000 1 Maint None None",
                "odd 127.12.0.20:3001 1 Ready Down None",
                "plain 127.12.0.22:3000 3 Drain None None",
                "unix - 1 Maint None None",
                "up 127.12.0.20:3000 1 Ready Up Some(9)",
                "v6 [2001:db8::1]:3000 1 Maint None None",
            ],
            "{version}"
        );
    }
}

#[test]
fn without_stat_only_two_replies_are_read() {
    let (_, text) = RECORDED[0];
    let without = &text[..text.find("# pxname").unwrap()];
    let servers = state(without, false).unwrap().servers;
    assert!(
        servers["nodes"]
            .values()
            .all(|server| server.stat.is_none())
    );
    assert_eq!(
        state(without, true),
        Err(ReplyError::Truncated {
            command: "show stat"
        })
    );
}

#[test]
fn a_reply_cut_anywhere_is_an_error() {
    for (_, text) in RECORDED {
        for end in 0..text.len() {
            assert!(state(&text[..end], true).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn admin_bits_other_than_maint_and_drain_do_not_count() {
    let read = |bits: u32| {
        let text = format!("1\n{HEADER}\n3 b 1 s 10.0.0.1 {bits} 1 80\n");
        servers(&text).unwrap()["b"]["s"].admin
    };
    let states: Vec<Admin> = [0, 4, 2, 32, 1, 5, 8, 12, 9].map(read).to_vec();
    use Admin::{Drain, Maint, Ready};
    assert_eq!(
        states,
        [
            Ready, Ready, Ready, Ready, Maint, Maint, Drain, Drain, Maint
        ]
    );
}

#[test]
fn other_formats_are_named() {
    assert!(matches!(
        servers("2\n"),
        Err(ReplyError::Odd {
            field: "format",
            ..
        })
    ));
    assert!(matches!(
        servers("1\n# be_id\n"),
        Err(ReplyError::Missing {
            field: "be_name",
            ..
        })
    ));
    let short = format!("1\n{HEADER}\n3 b 1\n");
    assert_eq!(
        servers(&short),
        Err(ReplyError::Truncated {
            command: "show servers state"
        })
    );
    let odd = format!("1\n{HEADER}\n3 b 1 s 10.0.0.1 0 1 99999\n");
    assert!(matches!(
        servers(&odd),
        Err(ReplyError::Odd {
            field: "srv_port",
            ..
        })
    ));
    assert_eq!(
        info("Pid: 3\n"),
        Err(ReplyError::Missing {
            command: "show info",
            field: "Version"
        })
    );
}

#[test]
fn a_status_is_read_up_to_its_first_space() {
    let read = |status, check| check_of(status, check);
    assert_eq!(read("UP -2/5", "INI"), Check::Pending);
    assert_eq!(read("UP 1/3", "* L4OK"), Check::Up);
    assert_eq!(read("UP 1/2", "L4CON"), Check::Falling);
    assert_eq!(read("DRAIN", "L7OK"), Check::Up);
    assert_eq!(read("DRAIN", ""), Check::None);
    assert_eq!(read("DOWN 1/2", "L4OK"), Check::Down);
    assert_eq!(read("DOWN (agent)", ""), Check::Down);
    assert_eq!(read("MAINT (resolution)", "L4CON"), Check::None);
    assert_eq!(read("no check", ""), Check::None);
    assert_eq!(read("NOLB", "L7OKC"), Check::Up);
}

#[test]
fn text_of_a_server_in_a_failed_check_forges_no_line() {
    let header = "# pxname,svname,qcur,scur,slim,stot,status,type,check_status,last_chk,\n";
    let text = format!(
        "{header}b,s,1,2,,5,UP,2,L7OK,\"x\"\"\nb,forged,0,0,,0,UP,2,L7OK,,\n\n\",\nb,BACKEND,0,0,,0,UP,1,,,\nc,BACKEND,0,0,,0,DOWN,1,,,\n"
    );
    let Stats {
        servers: stats,
        down,
    } = stat(&text).unwrap();
    assert_eq!(down, ["c".to_owned()].into(), "a backend without servers");
    assert_eq!(stats["b"].keys().collect::<Vec<_>>(), ["s"]);
    assert_eq!(
        stats["b"]["s"],
        ServerStat {
            check: Check::Up,
            said: None,
            in_flight: 3,
            maxconn: None,
            total: 5,
            cookie: None
        }
    );
    assert!(stat(&format!("{header}b,s,1,2,,5,UP,2,L7OK,\"x\"y,\n")).is_err());
}

#[test]
fn the_master_counts_the_reloads_it_failed() {
    let proc = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
        18755           master          2 [failed: 1]   0d00h01m28s     2.6.12-1+deb12u4\n\
        # workers\n24027           worker          1               0d00h00m03s     2.6.12-1+deb12u4\n# programs\n\n";
    assert_eq!(
        master(proc),
        Ok(Master {
            pid: 18755,
            failed: 1,
            old_workers: Vec::new()
        })
    );
    assert_eq!(
        master(""),
        Err(ReplyError::Missing {
            command: "show proc",
            field: "failed"
        })
    );
    let reloaded = "#<PID> <type> <reloads> <uptime> <version>\n7 master 3 [failed: 0] 0d00h01m28s 3.0.11\n\
        # workers\n10 worker 0 0d00h00m03s 3.0.11\n# old workers\n8 worker 2 0d00h00m03s 3.0.11\n\
        9 worker 1 0d00h00m03s 3.0.11\n# programs\n11 program 1 0d00h00m03s\n\n";
    assert_eq!(
        master(reloaded).map(|master| master.old_workers),
        Ok(vec![8, 9])
    );
    // 3.2, with a text that did not load
    let failed = reloaded
        .replace("# workers\n10 worker 0 0d00h00m03s 3.0.11\n", "# workers\n")
        .replace("# programs", "10 worker 0 0d00h00m03s 3.2.26\n# programs");
    assert_eq!(
        master(&failed).map(|master| master.old_workers),
        Ok(vec![8, 9])
    );
}

#[test]
fn the_connections_of_clients_are_counted() {
    let info = "Name: HAProxy\nCurrConns: 10\nCumConns: 14\n";
    assert_eq!(connections(info), Ok(10));
    for odd in ["", "CumConns: 14", "CurrConns: -1", "CurrConns: many"] {
        assert!(connections(odd).is_err(), "{odd}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "(1\n|# |be_name |srv_name |pxname,|svname,|type,|\"|,|\n|0|nodes|.){0,60}") {
        let _ = (info(&text), servers(&text), stat(&text), state(&text, true), master(&text), connections(&text));
    }

    #[test]
    fn any_damage_to_a_recorded_reply_is_read_without_a_panic(at in any::<prop::sample::Index>(), with in any::<char>()) {
        for (_, text) in RECORDED {
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            chars[at] = with;
            let _ = state(&chars.into_iter().collect::<String>(), true);
        }
    }
}
