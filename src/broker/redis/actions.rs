//! Actions on jobs that are not running.

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

/// How much of a long list is read at a time while one job is looked for.
const PAGE: i64 = 10_000;

/// Tries to catch a job that moves, or a message that changes, meanwhile.
const TRIES: usize = 5;

/// Keys of the server looked at by one call.
const KEYS: u32 = 500;

/// How a call to the `act` script went.
enum Answered {
    Acted(Acted),
    /// The message is not the one that was read.
    Changed,
    /// Somewhere in a list of this length.
    SomewhereIn(i64),
}

/// What `act` changes: the message that was read, and the new one.
type Edit<'a> = Option<(&'a [u8], &'a [u8])>;

impl Actions for RedisBroker {
    fn act<'a>(&'a self, queue: &'a QueueName, id: &'a JobId, action: Action) -> Answer<'a, Acted> {
        Box::pin(async move {
            let mut place = None;
            for _ in 0..TRIES {
                match self.act_once(queue, id, Some(action), place, None).await? {
                    Answered::Acted(Acted::NotFound) => return self.not_found(queue).await,
                    Answered::Acted(acted) => return Ok(acted),
                    Answered::SomewhereIn(length) => {
                        place = self.place(queue, id, length).await?;
                    }
                    Answered::Changed => return Err(reply::unexpected()),
                }
            }
            // In no place, and never taken: the entry is lost.
            Ok(Acted::Elsewhere(JobState::Pending))
        })
    }

    fn edit<'a>(
        &'a self,
        queue: &'a QueueName,
        id: &'a JobId,
        payload: &'a [u8],
    ) -> Answer<'a, Acted> {
        Box::pin(async move {
            for _ in 0..TRIES {
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
            Err(Error::unavailable(format!("job \"{id}\" changes all the time")))
        })
    }

    fn step<'a>(&'a self, step: &'a BulkStep<'a>) -> Answer<'a, BulkStepResult> {
        Box::pin(async move {
            let left =
                step.position.left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX));
            // Never repeated: a second step would be made of the jobs that follow.
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
            // A set that changes is shown some of its members twice.
            groups.sort();
            groups.dedup();
            groups.reverse();
            Ok(groups)
        })
    }

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
                // It has been decided; what arrives from now on is not meant.
                stage = 2;
            }
            let mut cursor = "0".to_owned();
            loop {
                let mut reply = self
                    .ask(&SCRIPTS.delete_leftovers, queue, Repeat::Safe, |_, call| {
                        call.arg(cursor.as_str()).arg(KEYS)
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
    /// The arguments that every action begins with.
    fn action(&self, call: ScriptCall, queue: &QueueName, action: Option<Action>) -> ScriptCall {
        let keep = self.archive.of(queue);
        let (word, placement) = match action {
            Some(Action::Run) => ("run", Placement::Now),
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

    /// `None` for the action stands for an edit.
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

    /// How many jobs of a list of this length are before this one, page by page:
    /// a search of the whole list in one go would block the server.
    async fn place(
        &self,
        queue: &QueueName,
        id: &JobId,
        length: i64,
    ) -> Result<Option<i64>, Error> {
        let mut first = 0;
        while first < length {
            // A little of the page before, for jobs taken in between.
            let (begin, end) = (first + PAGE + PAGE / 10, first + 1);
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
            first += PAGE;
        }
        Ok(None)
    }

    /// No such job; or no such queue, which is asked only then.
    async fn not_found(&self, queue: &QueueName) -> Result<Acted, Error> {
        self.must_exist(queue).await.map(|()| Acted::NotFound)
    }

    async fn must_exist(&self, queue: &QueueName) -> Result<(), Error> {
        if self.is_known(queue).await? {
            return Ok(());
        }
        Err(Error::not_found(format!("queue \"{queue}\" does not exist")))
    }
}
