//! What buttons do, in English.

use crate::web::dashboard::ui::texts::deeds::{Deed, DeedTexts};

/// The texts of a deed.
pub(super) fn texts(deed: Deed) -> DeedTexts {
    let (label, consequence, keep) = match deed {
        Deed::RunJob => (
            "Run job",
            "Moves the job to pending. It runs as soon as a worker takes it.",
            "Leave job as it is",
        ),
        Deed::RunJobNext => (
            "Run job next",
            "Makes the job the first pending one of its queue.",
            "Leave job as it is",
        ),
        Deed::CancelJob => (
            "Cancel job",
            "Asks the worker to stop this attempt, and archives the job.",
            "Keep running",
        ),
        Deed::RescheduleJob => (
            "Reschedule job",
            "Gives the job another due time, until which it waits.",
            "Keep due time",
        ),
        Deed::ArchiveJob => (
            "Archive job",
            "The job does not run any more, unless you run it from the archive.",
            "Leave job as it is",
        ),
        Deed::DuplicateJob => {
            ("Duplicate job", "Enqueues a copy of the job under another ID.", "Leave job as it is")
        }
        Deed::RunJobChanged => (
            "Run again with changes",
            "Opens the form for a new job with this payload. This job stays as it is.",
            "Leave job as it is",
        ),
        Deed::DeleteJob => {
            ("Delete job", "Deletes the job permanently. It cannot be restored.", "Keep job")
        }
        Deed::SavePayload => {
            ("Save payload", "The next attempt gets this payload.", "Discard changes")
        }
        Deed::RunJobs => (
            "Run jobs",
            "They are moved to pending, and run as soon as workers take them.",
            "Leave jobs as they are",
        ),
        Deed::ArchiveJobs => (
            "Archive jobs",
            "They do not run any more, unless you run them from the archive.",
            "Leave jobs as they are",
        ),
        Deed::DeleteJobs => {
            ("Delete jobs", "They are deleted permanently and cannot be restored.", "Keep jobs")
        }
        Deed::PauseQueue => (
            "Pause queue",
            "Workers take no more jobs from this queue. Jobs in flight continue.",
            "Keep queue running",
        ),
        Deed::ResumeQueue => {
            ("Resume queue", "Workers take jobs from this queue again.", "Keep queue paused")
        }
        Deed::DeleteQueue => {
            ("Delete queue", "Deletes the queue and its jobs permanently.", "Keep queue")
        }
        Deed::RunPeriodic => (
            "Enqueue job now",
            "Enqueues one job as the next run would. The schedule does not change.",
            "Wait for next run",
        ),
        Deed::RepairStore => (
            "Repair store",
            "Repairs what can be repaired. Jobs that are in no list are put back, most of them to pending, and may run twice.",
            "Leave store as it is",
        ),
        Deed::QuietWorker => (
            "Quiet worker",
            "This process takes no more jobs. Its running jobs finish; then it stays idle until you resume it or it restarts. Other processes go on.",
            "Keep taking jobs",
        ),
        Deed::ResumeWorker => {
            ("Resume worker", "This process takes jobs again.", "Keep worker quiet")
        }
        Deed::ChangeWorker => (
            "Change worker",
            "More slots are used at once. With fewer, running jobs finish first; none is cancelled. An empty field means: as configured.",
            "Leave worker as it is",
        ),
        Deed::QuietWorkers => (
            "Quiet all workers",
            "No process takes jobs any more. Running jobs finish; all others wait until you resume the workers.",
            "Keep taking jobs",
        ),
        Deed::ResumeWorkers => (
            "Resume all workers",
            "Every process takes jobs again, also those that were made quiet one by one.",
            "Leave workers as they are",
        ),
        Deed::ChangeWorkers => (
            "Change all workers",
            "More slots are used at once. With fewer, running jobs finish first; none is cancelled. An empty field means: as configured.",
            "Leave workers as they are",
        ),
        Deed::SetLimit => (
            "Set limit",
            "A limit of the same name is replaced. Give a concurrency, a rate or both.",
            "Leave limits as they are",
        ),
        Deed::DeleteLimit => {
            ("Delete limit", "Jobs that wait for this limit become pending.", "Keep limit")
        }
    };
    DeedTexts { label, consequence, keep }
}
