//! The commands: requests in, what a real agent answers out, in order, one after the other.

use bytes::Bytes;
use serf_rpc::{Member, MemberBuilder, MemberStatus};
use tokio::net::tcp::ReadHalf;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::cluster::Filter;
use super::message::Message;
use super::request::{Body, Header, Requests};
use super::setting::Fault;
use super::state::{Shared, State};
use super::topic::{Interest, Level};
use super::wire;

const WITH_BODY: [&str; 9] = [
    "handshake",
    "auth",
    "event",
    "members-filtered",
    "stream",
    "monitor",
    "stop",
    "tags",
    "force-leave",
];
const WITHOUT_BODY: [&str; 3] = ["members", "stats", "leave"];

/// Bytes of a user event's name and payload together.
const MAX_EVENT: usize = 512;

/// What one client says, and how far it has come.
pub(super) struct Conversation<'a> {
    requests: Requests<ReadHalf<'a>>,
    outbound: mpsc::Sender<Message>,
    shared: &'a Shared,
    peer: u64,
    shaken: bool,
    authenticated: bool,
}

/// An answer: the agent's complaint, and the bytes after the header.
type Answer = Result<Bytes, String>;

impl<'a> Conversation<'a> {
    pub(super) fn new(
        socket: ReadHalf<'a>,
        outbound: mpsc::Sender<Message>,
        shared: &'a Shared,
        peer: u64,
    ) -> Self {
        let authenticated = shared.lock().key.is_none();
        Self {
            requests: Requests::new(socket),
            outbound,
            shared,
            peer,
            shaken: false,
            authenticated,
        }
    }

    /// Ends with the client, or where the agent hangs up.
    pub(super) async fn run(mut self) {
        while let Some(header) = self.requests.header().await {
            if self.carry_out(&header).await.is_none() {
                return;
            }
        }
    }

    /// None where the agent hangs up afterwards.
    async fn carry_out(&mut self, header: &Header) -> Option<()> {
        let command = &header.command;
        let count =
            |state: &mut State| *state.counts.requests.entry(command.clone()).or_default() += 1;
        count(&mut self.shared.lock());
        let early = matches!(command.as_str(), "handshake" | "auth");
        if !self.shaken && command != "handshake" {
            self.answer(header, Err("Handshake required".into()))
                .await?;
            return None;
        }
        if !self.authenticated && !early {
            // The body, if there is one, is not read, and will be taken for a header.
            return self
                .answer(header, Err("Authentication required".into()))
                .await;
        }
        let body = if WITH_BODY.contains(&command.as_str()) {
            self.requests.body().await?
        } else if WITHOUT_BODY.contains(&command.as_str()) {
            Body::none()
        } else {
            self.answer(header, Err("Unsupported command".into()))
                .await?;
            return None;
        };
        self.perform(header, &body).await
    }

    async fn perform(&mut self, header: &Header, body: &Body) -> Option<()> {
        match header.command.as_str() {
            "stream" | "monitor" => {
                let interest = self.interest(header, body);
                let answer = interest
                    .as_ref()
                    .map(|_| Bytes::new())
                    .map_err(Clone::clone);
                self.answer(header, answer).await?;
                if let Ok(interest) = interest {
                    self.shared
                        .lock()
                        .subscribe(self.peer, header.seq, interest);
                }
            }
            "stop" => {
                self.answer(header, Ok(Bytes::new())).await?;
                self.shared
                    .lock()
                    .unsubscribe(self.peer, body.number("Stop"));
            }
            "leave" => {
                self.shared
                    .change(|state, now| state.set_own_status(MemberStatus::Left, now));
                self.answer(header, Ok(Bytes::new())).await?;
                let mut state = self.shared.lock();
                state.leave(self.peer);
                state.strike(&Fault::Close);
                state.listener.take()?.abort();
                return None;
            }
            command @ ("handshake" | "auth") => {
                let answer = self.introduce(command, body);
                self.answer(header, answer.map(|()| Bytes::new())).await?;
            }
            command => {
                let answer = self
                    .shared
                    .change(|state, now| state.execute(command, body, now))?;
                self.answer(header, answer).await?;
            }
        }
        Some(())
    }

    async fn answer(&self, header: &Header, answer: Answer) -> Option<()> {
        let (error, body) = match answer {
            Ok(body) => (String::new(), body),
            Err(error) => (error, Bytes::new()),
        };
        let pause = self.shared.lock().answer_after();
        // Even the shortest sleep is a millisecond.
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let trap = self.shared.lock().spring(&header.command);
        let message = Message::new(wire::header(header.seq, &error), body).with_trap(trap);
        self.outbound.send(message).await.ok()
    }

    fn introduce(&mut self, command: &str, body: &Body) -> Result<(), String> {
        if command == "auth" {
            let state = self.shared.lock();
            if body.text("AuthKey") != state.key.as_deref().unwrap_or_default() {
                return Err("Invalid authentication token".into());
            }
            self.authenticated = true;
            return Ok(());
        }
        if body.number("Version") != 1 {
            return Err("Unsupported IPC version".into());
        }
        if std::mem::replace(&mut self.shaken, true) {
            return Err("Handshake already performed".into());
        }
        Ok(())
    }

    fn interest(&self, header: &Header, body: &Body) -> Result<Interest, String> {
        let interest = if header.command == "stream" {
            Interest::events(body.bytes("Type")).ok_or("Invalid event filter")?
        } else {
            let word = body.text("LogLevel");
            let level = Level::parse(word);
            Interest::Lines(
                level.ok_or_else(|| format!("Unknown log level: {}", word.to_uppercase()))?,
            )
        };
        let state = self.shared.lock();
        state.may_subscribe(self.peer, header.seq, &interest)?;
        Ok(interest)
    }
}

impl State {
    /// Carries out a command that ends with its answer; none where the agent hangs up instead.
    fn execute(&mut self, command: &str, body: &Body, now: tokio::time::Instant) -> Option<Answer> {
        match command {
            "members" => return Some(Ok(self.members())),
            "members-filtered" => return Some(Ok(self.cluster.filtered(&filter(body)?))),
            "stats" => return Some(Ok(self.stats())),
            "event" => {
                let (name, payload) = (body.bytes("Name"), body.bytes("Payload"));
                if name.len() + payload.len() > MAX_EVENT {
                    let limit = format!("configured limit of {MAX_EVENT} bytes");
                    return Some(Err(format!("user event exceeds {limit} before encoding")));
                }
                self.user_event(name, payload, body.truth("Coalesce"), now);
            }
            "tags" => self.set_own_tags(&body.list("DeleteTags"), &body.map("Tags"), now),
            "force-leave" => {
                let name = body.bytes("Node");
                let member = self.cluster.get(name).cloned();
                match member.map(|member| (member.status(), member)) {
                    Some((MemberStatus::Left | MemberStatus::Failed, _)) if body.truth("Prune") => {
                        self.remove(name, now);
                    }
                    Some((MemberStatus::Failed, member)) => {
                        self.put(like(&member).status(MemberStatus::Left).build(), now);
                    }
                    _ => {}
                }
            }
            _ => unreachable!("{command} is in one of the lists"),
        }
        Some(Ok(Bytes::new()))
    }

    fn set_own_status(&mut self, status: MemberStatus, now: tokio::time::Instant) {
        if let Some(own) = self.cluster.get(&self.name).cloned() {
            self.put(like(&own).status(status).build(), now);
        }
    }

    fn set_own_tags(&mut self, gone: &[&[u8]], new: &[(&[u8], &[u8])], now: tokio::time::Instant) {
        let Some(own) = self.cluster.get(&self.name).cloned() else {
            return;
        };
        let kept = own.tags().map(|(key, value)| (&**key, &**value));
        let kept = kept.filter(|(key, _)| !gone.contains(key));
        let tags = kept.chain(new.iter().copied());
        let own = tags.fold(without_tags(&own), |own, (key, value)| own.tag(key, value));
        self.put(own.build(), now);
    }

    fn stats(&self) -> Bytes {
        let count = |status: Option<MemberStatus>| {
            let members = self.cluster.members();
            let of = members.filter(|member| status.is_none_or(|status| member.status() == status));
            of.count().to_string()
        };
        let all = count(None);
        let (failed, left) = (
            count(Some(MemberStatus::Failed)),
            count(Some(MemberStatus::Left)),
        );
        let own = self.cluster.get(&self.name);
        let tags = own.iter().flat_map(|own| own.tags());
        let tags = tags.map(|(key, value)| (&**key, &**value)).collect();
        let agent = vec![(&b"name"[..], self.name.as_slice())];
        let serf = vec![
            (&b"members"[..], all.as_bytes()),
            (b"failed", failed.as_bytes()),
            (b"left", left.as_bytes()),
            (b"health_score", b"0"),
        ];
        let runtime = vec![(&b"version"[..], &b"go1.24.4"[..])];
        wire::stats(&[
            ("agent", agent),
            ("runtime", runtime),
            ("serf", serf),
            ("tags", tags),
            ("event_handlers", Vec::new()),
        ])
    }
}

/// None where the agent cannot read an expression.
fn filter(body: &Body) -> Option<Filter> {
    let expression = |text: &[u8]| Filter::expression(text);
    let unless_empty = |text: &[u8]| match text {
        b"" => Some(None),
        _ => expression(text).map(Some),
    };
    let tags = body.map("Tags").into_iter();
    Some(Filter {
        name: unless_empty(body.bytes("Name"))?,
        status: unless_empty(body.bytes("Status"))?,
        tags: tags
            .map(|(key, text)| Some((key.to_vec(), expression(text)?)))
            .collect::<Option<_>>()?,
    })
}

/// A member like this one.
pub(super) fn like(member: &Member) -> MemberBuilder {
    let tags = member.tags();
    tags.fold(without_tags(member), |builder, (key, value)| {
        builder.tag(key, value)
    })
}

fn without_tags(member: &Member) -> MemberBuilder {
    let builder = Member::builder(member.name())
        .status(member.status())
        .protocol(member.protocol())
        .delegate(member.delegate());
    match member.addr() {
        Some(addr) => builder.addr(addr, member.port()),
        None => builder,
    }
}
