//! Operator actions on jobs that are not running: run, archive, delete,
//! reschedule, edit, on one job or on many, and the removal of a queue.
//!
//! A single action is one script call that checks the job's state and moves it. A
//! bulk action walks a list in steps of a few hundred jobs, so that no call blocks
//! Redis for longer than a few milliseconds; the caller keeps the position. A queue
//! is removed in stages: its jobs and counters first, then the locks and keys that
//! only a walk through the key space finds.
//!
//! What may surprise. A pending job can only be found by walking its list, and a
//! search of a long list in one command would block the server. The script answers
//! "somewhere in a list of n", the list is read page by page from here, and the
//! next call names the position to check. A step of a bulk action is never
//! repeated after a lost reply: it would act on the jobs that follow.

use ::redis::Value;

use super::reply::Reply;
use super::scripts::SCRIPTS;
use super::{RedisBroker, keys, micros, reply, wire};
use crate::broker::Answer;
use crate::broker::actions::{
    Acted, Action, Actions, BulkPosition, BulkStep, BulkStepResult, Removal,
};
use crate::error::Error;
use crate::job::{JobId, JobState, Placement, QueueName};
use crate::pool::{Repeat, ScriptCall};
use crate::time::Timestamp;

/// Entries of a list read per call while searching one job.
const PAGE_ENTRIES: i64 = 10_000;

/// Maximum attempts to act on a job that keeps moving, or whose message keeps changing. A job
/// moves because a worker or another operator is faster, so a second attempt nearly always
/// succeeds.
const MAX_ATTEMPTS: usize = 5;

/// Keys of the key space walked by one call.
const KEYS_PER_SCAN: u32 = 500;

/// The answer of the `act_on_job` script.
enum Answered {
    /// It is decided: carried out or refused.
    Acted(Acted),
    /// The message is not the one that was read.
    Changed,
    /// The job is somewhere in a list of this length.
    SomewhereIn(i64),
}

/// An edit: the message as read, and the new one. The script compares the first with what is
/// stored, so an edit never overwrites a change made in between.
type Edit<'a> = Option<(&'a [u8], &'a [u8])>;

impl Actions for RedisBroker {
    /// Searches a pending job's position if the script asks for it, and repeats that while the job
    /// moves.
    fn act<'a>(&'a self, queue: &'a QueueName, id: &'a JobId, action: Action) -> Answer<'a, Acted> {
        Box::pin(async move {
            let mut place = None;
            for _ in 0..MAX_ATTEMPTS {
                match self.act_once(queue, id, Some(action), place, None).await? {
                    Answered::Acted(Acted::NotFound) => return self.not_found(queue).await,
                    Answered::Acted(acted) => return Ok(acted),
                    Answered::SomewhereIn(length) => {
                        place = self.place(queue, id, length).await?;
                    }
                    Answered::Changed => return Err(reply::unexpected()),
                }
            }
            // It is in no list and was never dequeued: the entry is lost.
            Ok(Acted::Elsewhere(JobState::Pending))
        })
    }

    /// Reads the message, changes the payload here, and writes it only if it has not changed
    /// meanwhile.
    fn edit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        payload: &'a [u8],
    ) -> Answer<'a, Acted> {
        Box::pin(async move {
            for _ in 0..MAX_ATTEMPTS {
                let fields: Vec<Vec<u8>> = vec![keys::task(queue, id), b"msg".to_vec()];
                let old = match self.command(Repeat::Safe, "HGET", &fields).await? {
                    Value::BulkString(old) => old,
                    Value::Nil => return self.not_found(queue).await,
                    _ => return Err(reply::unexpected()),
                };
                let mut job = wire::decode(queue, id, &old).ok_or_else(|| {
                    Error::damaged(format!("job \"{id}\": its message is unreadable"))
                })?;
                job.payload = Some(payload.to_vec());
                let new = wire::encode(&job);
                let asked = self.act_once(queue, id, None, None, Some((&old, &new))).await?;
                match asked {
                    Answered::Acted(Acted::NotFound) => return self.not_found(queue).await,
                    Answered::Acted(acted) => return Ok(acted),
                    Answered::Changed => {}
                    Answered::SomewhereIn(_) => return Err(reply::unexpected()),
                }
            }
            Err(Error::unavailable(format!(
                "job \"{id}\" changes too often to be edited; try again"
            )))
        })
    }

    /// One script for one step of a sweep.
    fn step<'a>(&'a self, step: &'a BulkStep<'a>) -> Answer<'a, BulkStepResult> {
        Box::pin(async move {
            let left =
                step.position.left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX));
            // Never repeated: a repetition would act on the jobs that follow.
            let mut reply = self
                .ask(&SCRIPTS.act_in_bulk, step.queue, Repeat::Never, |_, call| {
                    self.action(call, step.queue, Some(step.action))
                        .arg(step.state.as_str())
                        .arg(step.group)
                        .arg(left)
                        .arg(step.position.skip)
                        .arg(step.limit)
                        .arg(step.job_type.unwrap_or_default())
                })
                .await?;
            let position = BulkPosition { left: Some(reply.size()?), skip: reply.size()? };
            let (done, size) = (reply.size()?, reply.size()?);
            let due = Timestamp::from_micros(reply.int()?);
            if done > 0 && matches!(step.action, Action::Reschedule(_)) {
                self.wake.due_at(step.queue, due);
            }
            Ok(BulkStepResult { position, done, size, due })
        })
    }

    /// Read completely before the sweep begins; groups that appear later are left out.
    fn waiting_groups<'a>(&'a self, queue: &'a QueueName) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let key = format!("{}groups", keys::prefix(queue));
            let mut groups = Vec::new();
            let mut cursor = b"0".to_vec();
            loop {
                let scan: Vec<Vec<u8>> =
                    vec![key.clone().into(), cursor, b"COUNT".to_vec(), b"500".to_vec()];
                let mut page = Reply::new(self.command(Repeat::Safe, "SSCAN", &scan).await?)?;
                cursor = page.bytes()?;
                let mut names = page.rest()?;
                while !names.is_empty() {
                    groups.push(names.text()?);
                }
                if cursor == b"0" {
                    break;
                }
            }
            // SSCAN returns some members twice while the set changes.
            groups.sort();
            groups.dedup();
            groups.reverse();
            Ok(groups)
        })
    }

    /// In stages. Once the first stage has decided, jobs that arrive belong to a new queue and are
    /// kept.
    fn remove_queue<'a>(&'a self, queue: &'a QueueName, force: bool) -> Answer<'a, Removal> {
        Box::pin(async move {
            self.must_exist(queue).await?;
            let mut stage = u32::from(force);
            loop {
                let mut reply = self
                    .ask(&SCRIPTS.begin_removal, queue, Repeat::Safe, |_, call| call.arg(stage))
                    .await?;
                match reply.int()? {
                    1 => {}
                    -1 => return Ok(Removal::Running),
                    _ => return Ok(Removal::NotEmpty),
                }
                if reply.int()? == 0 {
                    break;
                }
                // The removal is decided; jobs that arrive from now on are not removed.
                stage = 2;
            }
            let mut cursor = "0".to_owned();
            loop {
                let mut reply = self
                    .ask(&SCRIPTS.delete_leftovers, queue, Repeat::Safe, |_, call| {
                        call.arg(cursor.as_str()).arg(KEYS_PER_SCAN)
                    })
                    .await?;
                cursor = reply.text()?;
                if cursor == "0" {
                    break;
                }
            }
            let gone =
                self.ask(&SCRIPTS.end_removal, queue, Repeat::Safe, |_, call| call).await?.int()?;
            if gone == 1 {
                let member: Vec<Vec<u8>> = vec![keys::QUEUES.into(), queue.as_str().into()];
                let removed = self.command(Repeat::Safe, "SREM", &member).await;
                if let Err(error) = removed
                    && !error.is_damaged()
                {
                    return Err(error);
                }
                self.unpublish(queue);
            }
            Ok(Removal::Gone)
        })
    }

    /// Also runs in the background, from the janitor.
    fn trim<'a>(&'a self, queue: &'a QueueName, limit: usize) -> Answer<'a, usize> {
        Box::pin(async move {
            let keep = self.archive.of(queue);
            let mut reply = self
                .ask(&SCRIPTS.trim_archive, queue, Repeat::Safe, |_, call| {
                    call.arg(limit.clamp(1, 1000)).arg(keep.max).arg(self.archive_age(queue))
                })
                .await?;
            Ok(reply.size()? as usize)
        })
    }
}

impl RedisBroker {
    /// Adds the arguments that all actions share, in the order of `move_job.lua`.
    fn action(&self, call: ScriptCall, queue: &QueueName, action: Option<Action>) -> ScriptCall {
        let keep = self.archive.of(queue);
        let (word, placement) = match action {
            Some(Action::Run) => ("run", Placement::Now),
            Some(Action::RunNext) => ("run_next", Placement::Now),
            Some(Action::Archive) => ("archive", Placement::Now),
            Some(Action::Delete) => ("delete", Placement::Now),
            Some(Action::Reschedule(placement)) => ("reschedule", placement),
            None => ("edit", Placement::Now),
        };
        let (kind, time) = match placement {
            Placement::Now => ("now", 0),
            Placement::After(delay) => ("after", micros(delay)),
            Placement::At(due) => ("at", due.as_micros()),
        };
        call.arg(word)
            .arg(keep.max)
            .arg(self.archive_age(queue))
            .arg(u32::from(self.archive.release_lock))
            .arg(kind)
            .arg(time)
    }

    /// Calls the script once. No action means an edit. `place` is the number of jobs before
    /// this one in the pending list, if it was found there.
    ///
    /// It may be repeated after a lost reply: the script gets the number of the attempt, and a
    /// repetition that finds its own work done says so.
    async fn act_once(
        &self,
        queue: &QueueName,
        id: &JobId,
        action: Option<Action>,
        place: Option<i64>,
        edit: Edit<'_>,
    ) -> Result<Answered, Error> {
        let permitted = |state: &JobState| match action {
            Some(action) => action.permits(*state),
            None => *state != JobState::Active,
        };
        let states: Vec<&str> =
            JobState::ALL.iter().filter(|state| permitted(state)).map(|s| s.as_str()).collect();
        let states = format!(",{},", states.join(","));
        let (old, new) = edit.unwrap_or_default();
        let mut reply = self
            .ask(&SCRIPTS.act_on_job, queue, Repeat::Safe, |attempt, call| {
                self.action(call, queue, action)
                    .arg(states.as_str())
                    .arg(id.as_bytes())
                    .arg(attempt)
                    .arg(place.map_or(String::new(), |place| place.to_string()))
                    .arg(old)
                    .arg(new)
            })
            .await?;
        let code = reply.int()?;
        let word = reply.text()?;
        let (due, pending) = (reply.int()?, reply.int()?);
        let state = || {
            JobState::parse(&word)
                .ok_or_else(|| Error::damaged(format!("job \"{id}\": its state is unreadable")))
        };
        Ok(match code {
            1 => {
                if let Some(Action::Reschedule(_)) = action {
                    self.wake.due_at(queue, Timestamp::from_micros(due));
                }
                Answered::Acted(Acted::Done)
            }
            0 => Answered::Acted(Acted::NotFound),
            -1 => Answered::Acted(Acted::WrongState(state()?)),
            -2 => Answered::Acted(Acted::Elsewhere(state()?)),
            -3 => Answered::Changed,
            _ => Answered::SomewhereIn(pending),
        })
    }

    /// How many jobs of the pending list are before this one. Reads the list page by page: a
    /// search of the whole list in one command would block Redis.
    async fn place(
        &self,
        queue: &QueueName,
        id: &JobId,
        length: i64,
    ) -> Result<Option<i64>, Error> {
        let mut first = 0;
        while first < length {
            // With a tenth of the next page: jobs dequeued in between shift this one towards
            // the tail, and it would be missed.
            let (begin, end) = (first + PAGE_ENTRIES + PAGE_ENTRIES / 10, first + 1);
            let range: Vec<Vec<u8>> = vec![
                keys::pending(queue).into(),
                format!("-{begin}").into(),
                format!("-{end}").into(),
            ];
            let Value::Array(page) = self.command(Repeat::Safe, "LRANGE", &range).await? else {
                return Err(reply::unexpected());
            };
            let is_it = |one: &Value| matches!(one, Value::BulkString(b) if b == id.as_bytes());
            if let Some(at) = page.iter().rev().position(is_it) {
                return Ok(Some(first + i64::try_from(at).unwrap_or(0)));
            }
            first += PAGE_ENTRIES;
        }
        Ok(None)
    }

    /// There is no such job; an error if there is no such queue either.
    async fn not_found(&self, queue: &QueueName) -> Result<Acted, Error> {
        self.must_exist(queue).await.map(|()| Acted::NotFound)
    }

    /// Fails with [`Error::is_not_found`] for a queue that does not exist.
    async fn must_exist(&self, queue: &QueueName) -> Result<(), Error> {
        if self.is_known(queue).await? {
            return Ok(());
        }
        Err(Error::not_found(format!("queue \"{queue}\" does not exist")))
    }
}
