//! A projector: `projector/src/consume.rs` with `consume/listen.rs` and `consume/subscription.rs`.

use crate::broker::{PREFETCH, Slice};
use crate::feed::Checkpoint;
use crate::mutation::Mutation;
use crate::subscription::end_session;
use crate::system::{Position, System};
use crate::work::Work;

/// A projector; `None` is not running, or between two sessions. It forgets all of this when it dies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projector(pub Option<Session>);

/// `consume::Consumer`, and the subscription that it hears from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// What the broker thinks. The session learns it when it next needs the broker.
    pub connected: bool,
    /// Sent ahead by the broker, not looked at yet.
    arrived: Vec<Slice>,
    pub taken_over: Option<Checkpoint>,
    /// Another projector has taken over since. The session does not know it.
    relieved: bool,
    /// What it is at; `None` while it waits.
    pub work: Option<Work>,
}

/// What a projector does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectorStep {
    /// `listen::session` up to `Subscription::open`; without a broker it goes on from the log alone.
    Open,
    /// The broker sends the next message ahead.
    Deliver,
    /// `Subscription::batch_from`: what has arrived is one batch.
    GatherBatch,
    /// `Projection::head` in `look`, where it is ahead of a checkpoint that stands still. A look that finds nothing
    /// is no step.
    ReadHead,
    /// `Projection::checkpoint` in `look`
    ReadCheckpoint,
    /// `Projection::take_over` in `take_over_once`
    TakeOver,
    /// `read::after` in `Projection::apply_from_log`
    ReadLog,
    /// `apply::apply`: one transaction.
    Apply,
    /// `fan_out::step`: one transaction, where nothing else is to be done.
    FanOut,
    /// `delivery.acker.ack` in `Batch::acknowledge`, for one message.
    Acknowledge,
    /// `Subscription::next` or `check` fails. What is in hand is kept by the code; here it is taken anew.
    NoticeLoss,
}

/// What makes one projector different from another, fences by their worth.
pub type Identity<'a> =
    Option<(bool, &'a [Slice], Option<(Position, u8, bool)>, bool, Option<&'a Work>)>;

impl Projector {
    pub fn identity(&self, worth: impl Fn(u8) -> u8) -> Identity<'_> {
        let session = self.0.as_ref()?;
        let taken_over =
            session.taken_over.map(|own| (own.position, worth(own.fence), own.under_way));
        let Session { connected, arrived, relieved, work, .. } = session;
        Some((*connected, arrived, taken_over, *relieved, work.as_ref()))
    }

    pub fn is_connected(&self) -> bool {
        self.0.as_ref().is_some_and(|session| session.connected)
    }

    /// What this projector can do now, other than to look for a stall.
    pub fn steps(
        &self,
        system: &System,
        is_active: bool,
        mutation: Mutation,
    ) -> Vec<ProjectorStep> {
        let Some(session) = &self.0 else { return vec![ProjectorStep::Open] };
        let waits = session.work.is_none();
        let deliver = is_active && self.takes_more(system);
        let work = session
            .work
            .as_ref()
            .map(|work| work.next_step(session.taken_over.is_some(), mutation));
        let gather = waits && !session.arrived.is_empty();
        let fan_out = waits && session.taken_over.is_some_and(|own| own.under_way);
        let notice = waits && !session.connected && !system.broker.gone;
        [
            deliver.then_some(ProjectorStep::Deliver),
            work,
            gather.then_some(ProjectorStep::GatherBatch),
            fan_out.then_some(ProjectorStep::FanOut),
            notice.then_some(ProjectorStep::NoticeLoss),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether the broker can send this projector a message.
    pub fn takes_more(&self, system: &System) -> bool {
        let Some(session) = self.0.as_ref().filter(|session| session.connected) else {
            return false;
        };
        system.broker.len() > 0 && session.unacknowledged().count() < PREFETCH
    }

    /// Whether a look for a stall would find one, or a fan-out that nobody goes on with.
    pub fn can_find_stall(&self, system: &System) -> bool {
        let waits = self.0.as_ref().is_some_and(|session| {
            (session.connected || system.broker.gone) && session.work.is_none()
        });
        let rows = &system.feed.rows;
        let knows = |own: Checkpoint| {
            (own.position, own.fence, own.under_way) == (rows.position, rows.fence, rows.under_way)
        };
        let own = self.0.as_ref().and_then(|session| session.taken_over);
        let left_behind = rows.under_way && !own.is_some_and(knows);
        waits && (system.head > rows.position || left_behind)
    }
}

impl Session {
    /// What the broker has delivered and would take back.
    pub fn unacknowledged(&self) -> impl Iterator<Item = Slice> {
        self.work.iter().flat_map(|work| &work.deliveries).chain(&self.arrived).copied()
    }

    fn work(&mut self) -> &mut Work {
        self.work.as_mut().expect("there is work")
    }
}

/// Projector `p` takes `step`.
pub fn step(system: &mut System, p: usize, step: ProjectorStep, mutation: Mutation) {
    let System { projectors, broker, feed, seen, head, .. } = system;
    let Some(session) = &mut projectors[p].0 else {
        if !broker.gone {
            broker.declare_topology();
            broker.active.get_or_insert(p);
        }
        projectors[p].0 = Some(Session { connected: !broker.gone, ..Session::default() });
        return;
    };
    match step {
        ProjectorStep::Open => unreachable!("a session is open"),
        ProjectorStep::Deliver => session.arrived.push(broker.deliver()),
        ProjectorStep::GatherBatch => {
            session.work = Some(Work::batch(std::mem::take(&mut session.arrived)));
        }
        ProjectorStep::ReadHead => session.work = Some(Work::look(*head)),
        ProjectorStep::ReadCheckpoint => {
            session.work = session.work().repair(&feed.rows);
            if session.work.is_some() {
                session.taken_over = None;
            }
        }
        ProjectorStep::TakeOver => {
            session.taken_over = Some(feed.take_over(mutation));
            for other in projectors.iter_mut().filter_map(|projector| projector.0.as_mut()) {
                other.relieved = other.taken_over.is_some();
            }
            own(projectors, p).relieved = false;
        }
        ProjectorStep::ReadLog => {
            let after = session.taken_over.expect("it took over before it reads").position;
            session.work().read_log(after, *head);
        }
        ProjectorStep::Apply => {
            let old = session.taken_over.expect("it took over before it applies");
            let events = session.work().next_transaction();
            match feed.apply(old, &events, mutation) {
                Some(moved) => {
                    session.taken_over = Some(moved);
                    seen.committed(moved.position, session.relieved);
                }
                // Fenced.
                None => return end_session(system, p),
            }
        }
        ProjectorStep::FanOut => {
            let old = session.taken_over.expect("it took over before it fans out");
            match feed.step(old, mutation) {
                Some(moved) => {
                    session.taken_over = Some(moved);
                    seen.committed(moved.position, session.relieved);
                }
                // Fenced.
                None => return end_session(system, p),
            }
        }
        ProjectorStep::Acknowledge if session.connected => {
            seen.acknowledged(session.work().deliveries.remove(0));
        }
        ProjectorStep::Acknowledge | ProjectorStep::NoticeLoss => return end_session(system, p),
    }
    go_on(own(projectors, p), mutation);
}

fn own(projectors: &mut [Projector], p: usize) -> &mut Session {
    projectors[p].0.as_mut().expect("the session goes on")
}

/// What is computed between two steps.
fn go_on(session: &mut Session, mutation: Mutation) {
    if let Some(own) = session.taken_over
        && let Some(work) = &mut session.work
    {
        work.go_on(own.position, mutation);
        if work.is_done() {
            session.work = None;
        }
    }
}
