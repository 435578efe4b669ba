//! Reloads of the fake HAProxy, whose clock stands still but for what is waited.

use fake_haproxy::{FakeHaproxy, Fault, Haproxy, Socket as Of, Version};

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn stamp(n: u8) -> Stamp {
    Stamp(format!("{n:016x}"))
}

fn text(n: u8) -> String {
    format!(
        "global\ndescription \"serf-haproxy {}\"\nbackend b\nserver s 10.0.0.1:80\n",
        stamp(n)
    )
}

struct Fixture {
    fake: FakeHaproxy,
    api: RuntimeApi,
    before: Worker,
}

impl Fixture {
    /// A HAProxy that runs the first text, with the second on the disk.
    async fn start(version: Version) -> Self {
        let fake = FakeHaproxy::start(version, &text(1)).unwrap();
        let stats = fake.clone();
        let api = RuntimeApi::new(Socket::dialled("/stats", move || stats.stats()));
        let before = api.worker().await.unwrap();
        fake.with(|haproxy| haproxy.write(text(2)));
        Self { fake, api, before }
    }

    fn master(&self) -> Socket {
        let fake = self.fake.clone();
        Socket::dialled("/master", move || fake.master())
    }

    async fn reload(&self) -> Result<Worker, ReloadError> {
        let way = &ReloadWay::MasterSocket(self.master());
        reload(way, &self.api, Some(&self.before), &stamp(2), LONG).await
    }

    fn after(&self, command: &str, then: impl FnOnce(&mut Haproxy) + Send + 'static) {
        self.fake.with(|haproxy| haproxy.after(command, then));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_with_the_worker_that_runs_the_new_text() {
    for version in Version::ALL {
        let place = Fixture::start(version).await;
        let started = Instant::now();
        let worker = place.reload().await.unwrap();
        assert_eq!((worker.pid, worker.stamp), (9, Some(stamp(2))));
        assert!(started.elapsed() < Duration::from_secs(1), "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_that_does_not_load_is_told_soon_each_time() {
    for version in Version::ALL {
        let place = Fixture::start(version).await;
        place
            .fake
            .with(|haproxy| haproxy.write(text(2) + "nonsense\n"));
        for _ in 0..3 {
            let started = Instant::now();
            let error = place.reload().await.unwrap_err();
            let ReloadError::Failed { messages } = &error else {
                panic!("{version:?}: {error}")
            };
            // 2.6 says it in its log only
            let told = messages.iter().any(|it| it.text.contains("nonsense"));
            assert_eq!(told, version != Version::V2_6, "{messages:?}");
            assert!(started.elapsed() < Duration::from_secs(1), "{version:?}");
        }
        place.fake.with(|haproxy| haproxy.write(text(2)));
        assert_eq!(place.reload().await.unwrap().stamp, Some(stamp(2)));
    }
}

#[tokio::test(start_paused = true)]
async fn another_hand_may_put_its_own_text_in_and_that_is_no_success() {
    for version in Version::ALL {
        let place = Fixture::start(version).await;
        place.fake.with(|haproxy| haproxy.write(text(3)));
        let started = Instant::now();
        let error = place.reload().await.unwrap_err();
        assert!(
            matches!(&error, ReloadError::OtherStamp { worker, .. } if worker.stamp == Some(stamp(3))),
            "{error}"
        );
        assert!(started.elapsed() < OTHER_STAMP * 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_another_hand_on_the_way_is_borne_with() {
    let place = Fixture::start(Version::V3_0).await;
    place.fake.with(|haproxy| haproxy.write(text(3)));
    // its reload is done, and ours comes with the next look
    place.after("show info", |haproxy| {
        haproxy.write(text(2));
        haproxy.reload();
    });
    assert_eq!(place.reload().await.unwrap().stamp, Some(stamp(2)));
}

#[tokio::test(start_paused = true)]
async fn a_master_that_is_gone_or_silent_is_given_up_and_nothing_was_triggered() {
    for fault in [Fault::Refuses, Fault::Silent] {
        let place = Fixture::start(Version::V3_0).await;
        let broken = Some(fault);
        place.fake.with(|haproxy| haproxy.fail(Of::Master, broken));
        let started = Instant::now();
        let error = place.reload().await.unwrap_err();
        assert!(matches!(error, ReloadError::Master(_)), "{error}");
        assert!(started.elapsed() < MASTER_WAIT * 2);
        assert_eq!(place.api.worker().await.unwrap().pid, 8);
    }
}

#[tokio::test(start_paused = true)]
async fn who_serves_is_no_old_worker_whatever_failed() {
    for version in Version::ALL {
        let place = Fixture::start(version).await;
        let master = RuntimeApi::new(place.master());
        let old = async || old_workers(&master, LONG).await.unwrap();
        place.fake.with(|haproxy| haproxy.in_flight("b", "s", 3));
        assert_eq!(old().await, []);
        place.reload().await.unwrap();
        let first = OldWorker {
            pid: 8,
            sessions: Some(3),
        };
        assert_eq!(old().await, [first]);
        place.fake.with(|haproxy| haproxy.write("nonsense\n"));
        assert!(!place.fake.with(Haproxy::reload_now));
        assert_eq!(old().await, [first], "{version:?}");
        place.fake.with(Haproxy::finish_old);
        assert_eq!(old().await, [], "{version:?}");
    }
}
