//! What buttons do: each deed is a verb with its object, and has a sentence about what follows.
//!
//! No button says `Cancel` or `OK`: beside a question, such a word may mean the deed or the way out.
//! So the way out has a text of its own, which says what stays as it is.

/// Something that an operator does with a button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Move a job to pending.
    RunJob,
    /// Make a job the first pending one.
    RunJobNext,
    /// Request the cancellation of an active job.
    CancelJob,
    /// Change the due time of a job.
    RescheduleJob,
    /// Archive a job.
    ArchiveJob,
    /// Enqueue a copy of a job.
    DuplicateJob,
    /// Open the enqueue form with the payload of a job.
    RunJobChanged,
    /// Delete a job.
    DeleteJob,
    /// Save another payload.
    SavePayload,
    /// Move some jobs to pending.
    RunJobs,
    /// Archive some jobs.
    ArchiveJobs,
    /// Delete some jobs.
    DeleteJobs,
    /// Stop workers from dequeueing.
    PauseQueue,
    /// Let workers dequeue again.
    ResumeQueue,
    /// Delete a queue with its jobs.
    DeleteQueue,
    /// Enqueue the job of a periodic job by hand.
    RunPeriodic,
    /// Repair what the doctor found.
    RepairStore,
    /// Let one worker process take no more jobs.
    QuietWorker,
    /// Let it take jobs again.
    ResumeWorker,
    /// Change its slots and weights.
    ChangeWorker,
    /// Let no worker process take jobs.
    QuietWorkers,
    /// Let all take jobs again.
    ResumeWorkers,
    /// Change the slots of all.
    ChangeWorkers,
    /// Set a limit.
    SetLimit,
    /// Remove a limit.
    DeleteLimit,
}

/// The texts of a deed in one language.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeedTexts {
    /// The button: a verb and its object.
    pub label: &'static str,
    /// What it does, and whether that can be undone: a sentence.
    pub consequence: &'static str,
    /// The button beside it, which does nothing: what stays as it is.
    pub keep: &'static str,
}
