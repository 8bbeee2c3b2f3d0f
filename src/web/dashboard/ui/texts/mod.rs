//! Every text of every page, by key. A language is one file with a value of [`Texts`]; the
//! compiler refuses one in which a key is missing. To add a language, write its file and put
//! it into [`LANGUAGES`].
//!
//! A text without parts is a string; one with a number or a name in it is a function, because
//! the order of the parts differs between languages.
//!
//! Names that the store, the configuration or REST define are the same in every language: states in
//! addresses, filters of the search, configuration keys. Errors about a request are English too,
//! because a page and a program get the same ones.
//!
//! The comment on a key says where the text stands and what follows it, which is what a translator
//! needs. The reader chooses a language on a page (`display`), or the browser's `Accept-Language`
//! does ([`Texts::preferred`]).

pub(crate) mod deeds;
mod english;
mod japanese;

use std::time::Duration;

use deeds::{Deed, DeedTexts};

use crate::broker::{FindingKind, WorkerChangeInfo, WorkerState};
use crate::inspector::{Found, Reason};
use crate::job::{JobState, QueueName};
use crate::web::api::registration::{Fault, Field};
use crate::web::proxy::IgnoredPrefix;

/// The languages there are. A browser that asks for none of them gets the first.
const LANGUAGES: [&Texts; 2] = [&english::TEXTS, &japanese::TEXTS];

/// The texts of one language. A key says what the text is for.
#[derive(Debug)]
pub(crate) struct Texts {
    /// The language's code in `Accept-Language` and in the page's `lang`.
    pub code: &'static str,
    /// The language's own name, in the choice of languages.
    pub name: &'static str,
    /// Title of the page for a request without credentials (401).
    pub authentication_required: &'static str,
    /// Title of the page for a request that a guard denies (403).
    pub not_allowed: &'static str,
    /// Link from the page of a denied request.
    pub back_to_overview: &'static str,
    /// Registration page: title.
    pub register_title: &'static str,
    /// Registration page: what the form does.
    pub register_intro: &'static str,
    /// Registration page: the button.
    pub register_button: &'static str,
    /// Registration page: after the job was enqueued; its id follows.
    pub registered: &'static str,
    /// Registration page: the same form was sent before; the first job's id follows.
    pub registered_before: &'static str,
    /// Registration page: label of the job's id.
    pub registered_id: &'static str,
    /// Registration page: some fields are invalid; each says why.
    pub fields_wrong: &'static str,
    /// Registration page: the store refused; the reason follows.
    pub not_registered: &'static str,
    /// Any page: Redis is not connected.
    pub unavailable: &'static str,
    /// Registration page: label of the message.
    pub message: &'static str,
    /// Label of the delay, on the registration and enqueue pages.
    pub delay_seconds: &'static str,
    /// Label of the maximum of retries, on the same pages.
    pub max_retry: &'static str,
    /// Enqueue page: label of how long the unique lock lasts.
    pub unique_seconds: &'static str,
    /// Job's page: label of the reasons why the job is not running.
    pub explanation: &'static str,
    /// Enqueue page: label of the seconds within which the job must start.
    pub expires_seconds: &'static str,
    /// Job's page: label of the instant by which the job must start.
    pub start_by: &'static str,
    /// Enqueue page: label of when the unique lock ends.
    pub unique_until: &'static str,
    /// Enqueue page: label of the unique lock's key.
    pub unique_key: &'static str,
    /// Enqueue page: label of what happens if the lock is held.
    pub on_conflict: &'static str,
    /// Notice on a job's page: it was moved to pending.
    pub done_run: &'static str,
    /// Notice on a job's page: it was made the first pending one.
    pub done_run_next: &'static str,
    /// Notice on a job's page: it was archived.
    pub done_archive: &'static str,
    /// Notice on a queue's page: one job was deleted.
    pub done_delete: &'static str,
    /// Notice on a job's page: its worker was asked to stop the attempt.
    pub done_cancel: &'static str,
    /// Notice on a job's page: it has a new due time.
    pub done_reschedule: &'static str,
    /// Notice on a job's page: it has a new payload.
    pub done_edit: &'static str,
    /// Notice on a queue's page: it was paused.
    pub done_pause: &'static str,
    /// Notice on a queue's page: it was resumed.
    pub done_resume: &'static str,
    /// Notice on the page of a duplicate.
    pub done_duplicate: &'static str,
    /// Notice on the overview: a queue was deleted.
    pub done_delete_queue: &'static str,
    /// Notice on the doctor's page: the repair ran.
    pub done_repair: &'static str,
    /// Notice on the page of periodic jobs: one was enqueued by hand.
    pub done_run_periodic: &'static str,
    /// Timeline of a job: it became pending.
    pub event_pending: &'static str,
    /// Timeline of a job: its attempt started.
    pub event_started: &'static str,
    /// Timeline of a job: it joined its group.
    pub event_grouped: &'static str,
    /// Timeline of a job: it was archived.
    pub event_archived: &'static str,
    /// Timeline of a job: it succeeded.
    pub event_completed: &'static str,
    /// Timeline of a job: when its next attempt is due.
    pub event_next: &'static str,
    /// Timeline of a job: when its retention ends.
    pub event_removed: &'static str,
    /// Notice on a job's page: its cancellation found it waiting, and archived it.
    pub done_cancel_waiting: &'static str,
    /// Heading of the jobs that the page follows to their ends.
    pub followed_title: &'static str,
    /// A followed job that is not stored any more, as a state.
    pub followed_gone: &'static str,
    /// What that means.
    pub followed_gone_hint: &'static str,
    /// What it means that a followed job is in retry.
    pub followed_retry_hint: &'static str,
    /// What it means that a followed job is archived.
    pub followed_archived_hint: &'static str,
    /// Link that shows the present, for readers without scripts.
    pub refresh: &'static str,
    /// Menu of a group of deeds, for screen readers: what they are for.
    pub act_on_job: &'static str,
    /// Name of the group of buttons for all jobs of a list, for screen readers.
    pub bulk_actions: &'static str,
    /// Page of a running action: closing it does not stop the action.
    pub bulk_continues: &'static str,
    /// Link to the page before.
    pub back: &'static str,
    /// Tooltip of a bar, before the number of failed attempts.
    pub chart_failed: &'static str,
    /// Legend of a chart: all attempts or jobs.
    pub chart_attempts: &'static str,
    /// Below a chart: what unfolds its values.
    pub chart_values: &'static str,
    /// Caption of the chart by minute.
    pub chart_hour: &'static str,
    /// Enqueue page: above the list of job types.
    pub enqueue_types: &'static str,
    /// Enqueue page: title.
    pub enqueue_title: &'static str,
    /// Enqueue page: the job type of the address is unknown here.
    pub enqueue_no_handler: &'static str,
    /// Enqueue page: legend of the options.
    pub enqueue_options: &'static str,
    /// Enqueue page: what an empty option means.
    pub enqueue_defaults: &'static str,
    /// Navigation, and the button of the enqueue page.
    pub enqueue: &'static str,
    /// Enqueue page: after success; the job's id follows.
    pub enqueued: &'static str,
    /// Enqueue page: nothing was stored; the id of the job with the unique lock follows.
    pub enqueue_held: &'static str,
    /// Enqueue page: label of the payload of a job type without a schema.
    pub payload_json: &'static str,
    /// Navigation and title of the jobs page.
    pub jobs_title: &'static str,
    /// Jobs page, after a number: jobs that an action could not change.
    pub left_alone: &'static str,
    /// Jobs page: the search is invalid; the reason follows.
    pub search_wrong: &'static str,
    /// Jobs page: label of the search field.
    pub search_label: &'static str,
    /// Jobs page: the button.
    pub search: &'static str,
    /// Jobs page: the filters, which are not translated.
    pub search_hint: &'static str,
    /// Job search: name of the links for ranges of time and the order.
    pub time_and_order: &'static str,
    /// Job search: link that removes the range of time.
    pub any_time: &'static str,
    /// Job search: the default order.
    pub newest_first: &'static str,
    /// Job search: the other order.
    pub oldest_first: &'static str,
    /// Job search: name of the counts beside the rows.
    pub facets: &'static str,
    /// Job search: name of the links to other pages.
    pub result_pages: &'static str,
    /// Jobs page: before links to the lists with more results.
    pub more_in: &'static str,
    /// Failures page: before the number of jobs that were read.
    pub failures_looked: &'static str,
    /// Navigation and title of the failures page.
    pub failures_title: &'static str,
    /// Failures page: there are none.
    pub failures_none: &'static str,
    /// Column: the last error.
    pub error: &'static str,
    /// Column: the job type.
    pub job_type: &'static str,
    /// Failures page, column: number of jobs with this error.
    pub failures_count: &'static str,
    /// When the last attempt failed.
    pub last_failure: &'static str,
    /// Failures page: column of the first version of the application that failed so.
    pub since_version: &'static str,
    /// Groups page: there are none.
    pub groups_none: &'static str,
    /// Groups page: before the last queue that was read.
    pub queues_up_to: &'static str,
    /// Link to the next queues, on the overview and the groups page.
    pub next_queues: &'static str,
    /// Navigation and title of the groups page.
    pub groups_title: &'static str,
    /// A group, as column, fact and title.
    pub group: &'static str,
    /// Column: number of jobs in a group.
    pub group_jobs: &'static str,
    /// Column: when the first job joined a group.
    pub group_oldest: &'static str,
    /// Column: when the last job joined a group.
    pub group_newest: &'static str,
    /// Link to the next page of a list.
    pub next_page: &'static str,
    /// Job search: link to the page before.
    pub previous_page: &'static str,
    /// Groups page: above the sets that are being aggregated.
    pub aggregating_now: &'static str,
    /// Groups page, between the number of jobs of a set and its deadline.
    pub jobs_until: &'static str,
    /// Page of a group: before the queue's name.
    pub queue_prefix: &'static str,
    /// Page of a group: after the number of jobs.
    pub jobs_unit: &'static str,
    /// Page of a job: before the job type in the title.
    pub job: &'static str,
    /// Page of a job that does not exist.
    pub job_gone: &'static str,
    /// A job's id, as column, fact and search field.
    pub job_id: &'static str,
    /// A queue, as column, fact, field and title.
    pub queue: &'static str,
    /// Fact: the state of a job, or whether a queue is paused.
    pub state: &'static str,
    /// Page of an active job: its lease has expired.
    pub worker_lost: &'static str,
    /// Page of an active job: its cancellation is requested.
    pub cancelling: &'static str,
    /// Fact: how many attempts of a job have failed, with a `+` if that is only how many are stored.
    pub failed_attempts: &'static str,
    /// Column and fact: how many retries a job has used, of how many.
    pub retries_used: &'static str,
    /// Column and fact: when a job is due.
    pub due: &'static str,
    /// Column and fact: since when a job is pending.
    pub pending_since: &'static str,
    /// Fact: the process that runs the job.
    pub worker: &'static str,
    /// Fact: when the lease of an active job expires.
    pub lease_ends: &'static str,
    /// Column and fact: when a job was archived.
    pub archived_at: &'static str,
    /// Column and fact: when a job succeeded.
    pub completed_at: &'static str,
    /// Fact: when the retention of a job ends.
    pub removed_at: &'static str,
    /// Fact: the timeout of an attempt.
    pub timeout: &'static str,
    /// Fact and timeline: the deadline of a job.
    pub deadline: &'static str,
    /// Fact: how often the worker of a job was lost.
    pub workers_lost: &'static str,
    /// Fact: the progress that the handler reported.
    pub progress: &'static str,
    /// Page of a job: heading of the last error.
    pub last_error: &'static str,
    /// Page of a job: heading of the payload.
    pub payload: &'static str,
    /// Page of a job: heading of the result.
    pub result: &'static str,
    /// Opens a payload or result as text, below its tree.
    pub as_text: &'static str,
    /// Enqueue page: before the names of fields of the job's payload that its schema does not have.
    pub fields_left_out: &'static str,
    /// Page of a job: heading of the headers.
    pub headers: &'static str,
    /// Timeline of a job: a failure of a worker that keeps no list of failures.
    pub attempt_failed: &'static str,
    /// Page of a job: caption of the picture of its states.
    pub states_picture: &'static str,
    /// In that picture: a stretch of which nothing is stored.
    pub states_unknown: &'static str,
    /// Page of a job: the id of the trace it belongs to.
    pub trace: &'static str,
    /// Page of a job: heading of the timeline.
    pub timeline: &'static str,
    /// Job page: label of the moment to which a job is rescheduled.
    pub reschedule_when: &'static str,
    /// Job page: what may be written there.
    pub reschedule_hint: &'static str,
    /// Job page: the question, before the moment.
    pub reschedule_as: &'static str,
    /// Link to the form for a payload.
    pub edit_payload: &'static str,
    /// Button of the form for how pages are shown.
    pub save: &'static str,
    /// Page of a job, after the number of headers if not all are shown.
    pub headers_unit: &'static str,
    /// Link to the whole of a payload, result, error or list of headers.
    pub download: &'static str,
    /// Search by id: no queue has it.
    pub job_id_unknown: &'static str,
    /// Search by id: the queues that were searched so far do not have it.
    pub job_id_not_yet: &'static str,
    /// Search by id: link that searches the next queues.
    pub find_more: &'static str,
    /// Name of the navigation, for screen readers.
    pub nav_pages: &'static str,
    /// Heading above the pages about jobs.
    pub nav_jobs: &'static str,
    /// Heading above the pages about workers and the store.
    pub nav_system: &'static str,
    /// Beside the pages: what unfolds theme, language and times.
    pub display: &'static str,
    /// Display: label of the themes.
    pub theme: &'static str,
    /// Display: the theme of the system.
    pub theme_system: &'static str,
    /// Display: the light theme.
    pub theme_light: &'static str,
    /// Display: the dark theme.
    pub theme_dark: &'static str,
    /// Display: label of the languages.
    pub language: &'static str,
    /// Display: the language that the browser asks for.
    pub language_browser: &'static str,
    /// Display: label of how times are told.
    pub times: &'static str,
    /// Display: times as distances.
    pub times_relative: &'static str,
    /// Display: times in full.
    pub times_absolute: &'static str,
    /// Display: label of the time zone.
    pub zone: &'static str,
    /// Display: which zones there are.
    pub zone_hint: &'static str,
    /// Link before everything else, for the keyboard.
    pub skip_to_content: &'static str,
    /// Help on the keys: its heading.
    pub keys_title: &'static str,
    /// Help on the keys: to the search field.
    pub key_search: &'static str,
    /// Help on the keys: to the next row.
    pub key_next: &'static str,
    /// Help on the keys: to the row before.
    pub key_previous: &'static str,
    /// Help on the keys: opens the page of the row.
    pub key_open: &'static str,
    /// Help on the keys: selects the row or no longer.
    pub key_select: &'static str,
    /// Job search: after the number of rows that are selected.
    pub key_selected: &'static str,
    /// Help on the keys: opens it.
    pub key_help: &'static str,
    /// Help on the keys: leaves a field or closes the help.
    pub key_close: &'static str,
    /// Help on the keys: checkbox that switches them on.
    pub keys_on: &'static str,
    /// Above a list of jobs: what unfolds the choice of columns.
    pub columns: &'static str,
    /// Button that closes a dialog.
    pub close: &'static str,
    /// Navigation: the overview.
    pub overview: &'static str,
    /// Navigation and title of the page of due jobs.
    pub scheduled_title: &'static str,
    /// Navigation: the periodic jobs.
    pub nav_periodic: &'static str,
    /// Navigation and title of the page of worker processes.
    pub workers_title: &'static str,
    /// Where the jobs of the store in memory are.
    pub store_in_memory: &'static str,
    /// Navigation and title of the page of the store.
    pub store_title: &'static str,
    /// Navigation: the button beside the search by id.
    pub find: &'static str,
    /// Above every page: of when it is. Like the next six, with `{}` for the time of day.
    pub as_of: &'static str,
    /// The same while the page follows what happens.
    pub live: &'static str,
    /// The same after the reader has paused updates.
    pub live_paused: &'static str,
    /// The same while updates wait for the reader, who fills in a form or has selected something.
    pub live_waiting: &'static str,
    /// The same while something has changed that the page does not show yet.
    pub live_behind: &'static str,
    /// The same after 2.6 s without a sign of the application or of its store.
    pub live_lost: &'static str,
    /// The same after the reader's session has ended.
    pub live_denied: &'static str,
    /// Button beside it, while updates run.
    pub pause_updates: &'static str,
    /// The same button while updates are paused.
    pub resume_updates: &'static str,
    /// Name of the navigation at the foot, for screen readers.
    pub nav_more: &'static str,
    /// Navigation at the foot: the registration page.
    pub nav_register: &'static str,
    /// Title of the overview, and of pages about errors.
    pub title: &'static str,
    /// Link to the doctor.
    pub doctor_link: &'static str,
    /// Title of a page about something that does not exist.
    pub not_found: &'static str,
    /// Title of the page of what operators did, and the link to it.
    pub audit_title: &'static str,
    /// The same page without entries.
    pub audit_none: &'static str,
    /// Its column: who.
    pub audit_actor: &'static str,
    /// Its column: what was done.
    pub audit_action: &'static str,
    /// Its column: to which job, or to how many.
    pub audit_what: &'static str,
    /// Its column: the client's address.
    pub audit_from: &'static str,
    /// Overview: an alert that was seen for the first time.
    pub alert_now: &'static str,
    /// Overview: before the name of a rule that could not be checked.
    pub alerts_unchecked: &'static str,
    /// Above warnings and findings.
    pub needs_attention: &'static str,
    /// Overview, fact: the age of the oldest pending job of all queues.
    pub longest_wait: &'static str,
    /// Column and fact: when the next job is due.
    pub next_due: &'static str,
    /// Column and fact: attempts that ended on this UTC day.
    pub processed_today: &'static str,
    /// Column and fact: attempts that failed on this UTC day.
    pub failed_today: &'static str,
    /// Overview without queues.
    pub queues_none: &'static str,
    /// Column and fact: the age of a queue's oldest pending job.
    pub latency: &'static str,
    /// Mark of a paused queue.
    pub paused: &'static str,
    /// Name of the tabs of a queue's page, for screen readers.
    pub states: &'static str,
    /// Fact: the queue is not paused.
    pub queue_running: &'static str,
    /// Page of a queue: label of the filter by job type.
    pub job_type_filter: &'static str,
    /// Page of a queue: label of the filter by text.
    pub text: &'static str,
    /// Page of a queue: where the text is searched.
    pub text_hint: &'static str,
    /// Page of a queue: the button of the filter.
    pub filter: &'static str,
    /// Notice on a queue's page: a limit was set.
    pub done_limit: &'static str,
    /// Notice on a queue's page: a limit was removed.
    pub done_unlimit: &'static str,
    /// Queue's page: heading of its limits.
    pub limits: &'static str,
    /// Column and field: the name of a limit.
    pub limit: &'static str,
    /// Column: the job types that a limit counts, and its key.
    pub limit_of: &'static str,
    /// Cell of the same column: jobs of every type.
    pub limit_all_types: &'static str,
    /// Column: jobs of a limit that run, and their maximum.
    pub limit_in_use: &'static str,
    /// Column: jobs that wait for a place of a limit.
    pub limit_waiting: &'static str,
    /// Column and field: the rate of a limit, as in the configuration.
    pub limit_rate: &'static str,
    /// Column: the keys of a limit, each with running and waiting jobs.
    pub limit_keys: &'static str,
    /// Field: the job types of a limit.
    pub limit_types: &'static str,
    /// Field: the key of a limit, as in the configuration.
    pub limit_key: &'static str,
    /// Field: how many jobs run at once.
    pub limit_concurrency: &'static str,
    /// A list without jobs.
    pub jobs_none: &'static str,
    /// Column: when an attempt or a process started.
    pub started: &'static str,
    /// Column: the instant that matters in the job's state.
    pub when: &'static str,
    /// Name of a table of jobs, for screen readers.
    pub jobs: &'static str,
    /// Checkbox of a job, before its id, for screen readers.
    pub select: &'static str,
    /// Page of due jobs: heading of the next jobs.
    pub next_jobs: &'static str,
    /// Page of due jobs: before the number of queues that were not read.
    pub queues_left_out: &'static str,
    /// Page of due jobs: caption of the chart by minute.
    pub due_hour: &'static str,
    /// Page of due jobs: caption of the chart by hour.
    pub due_day: &'static str,
    /// Page of due jobs: there are none.
    pub due_none: &'static str,
    /// Jobs page: legend of the buttons for selected jobs.
    pub selected_jobs: &'static str,
    /// Job search: checkbox that selects all rows of the page.
    pub select_page: &'static str,
    /// Jobs page: legend of the buttons for all results.
    pub all_matching: &'static str,
    /// Question without a job.
    pub selected_none: &'static str,
    /// Question: not all results are covered.
    pub more_match: &'static str,
    /// Page of the store: what the doctor does.
    pub doctor_hint: &'static str,
    /// Store: address of a server.
    pub address: &'static str,
    /// Store: role of a server in its replication.
    pub role: &'static str,
    /// Store: how long a server has run.
    pub uptime: &'static str,
    /// Store: memory in use, and its limit.
    pub memory: &'static str,
    /// Store: memory fragmentation ratio.
    pub fragmentation: &'static str,
    /// Store: eviction policy.
    pub eviction: &'static str,
    /// Store: number of evicted keys.
    pub evicted_keys: &'static str,
    /// Store: append-only file and snapshots.
    pub persistence: &'static str,
    /// Store: commands per second.
    pub commands: &'static str,
    /// Store: connected clients.
    pub clients: &'static str,
    /// Store: connected replicas.
    pub replicas: &'static str,
    /// Page of the doctor: title.
    pub doctor_title: &'static str,
    /// Doctor, column: what was found.
    pub finding: &'static str,
    /// Doctor, column: the state, set or key with the finding.
    pub finding_place: &'static str,
    /// Doctor, column: number of entries with the finding.
    pub finding_count: &'static str,
    /// Doctor, column: ids of some of them.
    pub finding_examples: &'static str,
    /// Page of the doctor: nothing was found.
    pub doctor_healthy: &'static str,
    /// Doctor: mark of a finding that was repaired.
    pub repaired: &'static str,
    /// Page of worker processes: there are none.
    pub workers_none: &'static str,
    /// Column: host and id of a worker process.
    pub process: &'static str,
    /// Column: the status that a worker process announces.
    pub process_status: &'static str,
    /// Page of worker processes: before the number of jobs that are not listed.
    pub more_running: &'static str,
    /// Column: the queues that a worker process serves.
    pub queues: &'static str,
    /// Column: jobs in flight of a worker process, and how many it may have.
    pub worker_slots: &'static str,
    /// Column: the memory of a worker process.
    pub worker_memory: &'static str,
    /// Instead of actions: a process that takes none.
    pub worker_fixed: &'static str,
    /// Placeholder: the configured value.
    pub worker_as_configured: &'static str,
    /// Field: how long a change holds.
    pub worker_how_long: &'static str,
    /// Before the instant at which a change ends.
    pub worker_until: &'static str,
    /// Heading: all worker processes.
    pub workers_all: &'static str,
    /// Before what all processes were asked, also those that start later.
    pub workers_all_asked: &'static str,
    /// Notice: processes were asked to dequeue nothing.
    pub done_quiet: &'static str,
    /// Notice: processes were asked to dequeue again.
    pub done_unquiet: &'static str,
    /// Notice: processes were asked to change.
    pub done_worker: &'static str,
    /// What a worker process does.
    pub worker_state: fn(WorkerState) -> &'static str,
    /// A change of a worker process: asked or applied, the value, who asked, of one or of all.
    pub worker_changed: fn(&WorkerChangeInfo) -> String,
    /// Field: maximum concurrent jobs, at most this many.
    pub worker_concurrency: fn(u32) -> String,
    /// Field: the weight of a queue.
    pub worker_weight: fn(&QueueName) -> String,
    /// So many hours; 0 is until the process, or each process, ends.
    pub worker_hours: fn(u32, bool) -> String,
    /// Page of periodic jobs: title.
    pub periodic_title: &'static str,
    /// Page of periodic jobs: there are none.
    pub periodic_none: &'static str,
    /// Column: the schedule of a periodic job.
    pub schedule: &'static str,
    /// Column: when a periodic job runs next.
    pub next_run: &'static str,
    /// Column: when a periodic job ran last.
    pub last_run: &'static str,
    /// What a field of the registration page takes.
    pub field_hint: fn(Field) -> String,
    /// What is wrong with a field of the registration page.
    pub fault: fn(&Fault) -> String,
    /// How to make the links right behind a reverse proxy.
    pub prefix_ignored: fn(&IgnoredPrefix) -> String,
    /// Why a job has no page, by the length of its id in bytes.
    pub id_too_long: fn(usize) -> String,
    /// A job state.
    pub state_name: fn(JobState) -> &'static str,
    /// Job's page: one reason why the job is not running.
    pub reason: fn(&Reason) -> String,
    /// A length of time, in at most two units.
    pub span: fn(Duration) -> String,
    /// A past instant, of the length of time since.
    pub ago: fn(&str) -> String,
    /// A future instant, of the length of time until.
    pub from_now: fn(&str) -> String,
    /// All attempts of a chart, the failed ones among them, and the highest bar.
    pub chart_sum: fn(u64, u64, u64) -> String,
    /// Tooltip of a bar of a time that nobody counted.
    pub chart_unknown: &'static str,
    /// The sum of a chart in which something is missing.
    pub chart_partial: fn(&str) -> String,
    /// Below the chart of the last hour: names of queues, and from when on they were counted.
    pub chart_since: fn(&str, &str) -> String,
    /// The same for names of queues that were not counted at all.
    pub chart_uncounted: fn(&str) -> String,
    /// The caption of a chart of this many days.
    pub chart_days: fn(usize) -> String,
    /// Number of jobs and group.
    pub all_of_group: fn(u64, &str) -> String,
    /// Number of jobs, their state, and the type.
    pub all_of_type: fn(u64, &str, &str) -> String,
    /// Number of jobs and their state.
    pub all_of_state: fn(u64, &str) -> String,
    /// How many of how many.
    pub of: fn(u32, u32) -> String,
    /// In the picture of a job's states: a length of time that goes on.
    pub states_so_far: fn(&str) -> String,
    /// In the picture of a job's states: a length of time until the job is due.
    pub states_planned: fn(&str) -> String,
    /// How long a job waited until its attempt started.
    pub attempt_waited: fn(&str) -> String,
    /// How long an attempt took.
    pub attempt_ran: fn(&str) -> String,
    /// Which attempt failed.
    pub attempt_number_failed: fn(u32) -> String,
    /// Navigation and title of the list of job types.
    pub types_title: &'static str,
    /// Job types: what the figures are.
    pub types_hint: &'static str,
    /// Job types: there are none.
    pub types_none: &'static str,
    /// The page of a job type that did not run.
    pub types_missing: &'static str,
    /// Job types: what the links to other orders are.
    pub types_sorted: &'static str,
    /// Job types: order by run time.
    pub types_slowest: &'static str,
    /// Job types: order by failure rate.
    pub types_failing: &'static str,
    /// Job types: order by attempts.
    pub types_busiest: &'static str,
    /// Job types: column.
    pub types_run_hour: &'static str,
    /// Job types: column.
    pub types_wait_hour: &'static str,
    /// Job types: column.
    pub types_attempts_hour: &'static str,
    /// Job types: column.
    pub types_failed_hour: &'static str,
    /// Job types: column.
    pub types_run_days: &'static str,
    /// Job types: column.
    pub types_attempts_days: &'static str,
    /// Job types: column.
    pub types_failed_days: &'static str,
    /// A job type: column of times.
    pub types_time: &'static str,
    /// A job type: column.
    pub types_attempts: &'static str,
    /// A job type: column.
    pub types_failed: &'static str,
    /// A job type: column.
    pub types_run: &'static str,
    /// A job type: column.
    pub types_wait: &'static str,
    /// A job type: row.
    pub types_last_hour: &'static str,
    /// A job type: row.
    pub types_last_days: &'static str,
    /// A job type: column of hours.
    pub types_hour: &'static str,
    /// A job type: title of the table by hour.
    pub types_hours: &'static str,
    /// A job type or version: link to a search for its jobs.
    pub types_jobs: &'static str,
    /// A job type: link to a search for its failed jobs.
    pub types_failed_jobs: &'static str,
    /// A job type: title.
    pub types_slowest_attempts: &'static str,
    /// A job type: title.
    pub types_newest_failures: &'static str,
    /// A job type: no attempts are remembered.
    pub types_no_attempts: &'static str,
    /// A job type: the job of an attempt is gone.
    pub types_gone: &'static str,
    /// A job type: how long an attempt ran.
    pub types_ran: &'static str,
    /// A job type: when an attempt ended.
    pub types_ended: &'static str,
    /// A job type: title of the versions.
    pub types_versions: &'static str,
    /// Versions: column.
    pub types_first_seen: &'static str,
    /// Versions: column.
    pub types_last_seen: &'static str,
    /// A chart: a version was seen first in a bar.
    pub types_since: fn(&str) -> String,
    /// The application's version.
    pub version: &'static str,
    /// A number of bytes.
    pub bytes: fn(usize) -> String,
    /// Job search: which page this is.
    pub page_number: fn(usize) -> String,
    /// Job search: this many values are not shown.
    pub more_values: fn(usize) -> String,
    /// Job search: the counts below are of this many jobs only.
    pub of_the_first: fn(usize) -> String,
    /// Job search: the last 15m, 1h, 24h or 7d.
    pub last_range: fn(&str) -> String,
    /// Only the beginning of this many bytes is shown.
    pub beginning_of: fn(usize) -> String,
    /// What a button does.
    pub deed: fn(Deed) -> DeedTexts,
    /// The button of a deed for this many jobs: the verb and their number.
    pub deed_for: fn(Deed, u64) -> String,
    /// After a deed: what has happened to this many jobs.
    pub done_to_jobs: fn(Deed, u64) -> String,
    /// While a deed goes on: to how many of how many jobs it has happened.
    pub done_to_some: fn(Deed, u64, u64) -> String,
    /// Under way after jobs were moved to pending: how many of them have ended.
    pub followed_ended: fn(usize, usize) -> String,
    /// Only this many of so many jobs are followed.
    pub followed_first: fn(usize, u64) -> String,
    /// Deleting a queue with this many jobs.
    pub delete_queue_sure: fn(u64) -> String,
    /// Number of entries and queues that the doctor checked.
    pub doctor_looked: fn(u64, usize) -> String,
    /// Label of the field in which this has to be typed before it is lost.
    pub type_to_confirm: fn(&str) -> String,
    /// What an alert found, after the name of its queue.
    pub alert: fn(&Found) -> String,
    /// An alert that has held for this length of time.
    pub alert_for: fn(&str) -> String,
    /// An alert that has held for this length of time, as far as this process saw it.
    pub alert_for_at_least: fn(&str) -> String,
    /// Overview: this many alerts are not listed.
    pub alerts_more: fn(u64) -> String,
    /// Overview: only this many queues were checked.
    pub alerts_bounded: fn(u64) -> String,
    /// What a finding of the doctor means.
    pub finding_name: fn(FindingKind) -> &'static str,
}

impl Texts {
    /// All languages.
    pub(crate) fn all() -> &'static [&'static Texts] {
        &LANGUAGES
    }

    /// The language with this code.
    pub(crate) fn of(code: &str) -> Option<&'static Texts> {
        LANGUAGES.into_iter().find(|texts| texts.code == code)
    }

    /// The language that an `Accept-Language` header prefers among ours. Of two with the same
    /// quality the first of [`LANGUAGES`] wins, whatever their order in the header.
    pub(crate) fn preferred(header: Option<&str>) -> &'static Texts {
        let [first, ..] = LANGUAGES;
        let Some(header) = header.filter(|header| !header.trim().is_empty()) else {
            return first;
        };
        let ranges: Vec<(String, f32)> = header.split(',').map(range).collect();
        let quality = |code: &str| {
            let of_code = ranges.iter().filter(|(tag, _)| tag == code);
            of_code.map(|(_, quality)| *quality).fold(0.0_f32, f32::max)
        };
        let mut best: Option<(&Texts, f32)> = None;
        for texts in LANGUAGES {
            let wanted = quality(texts.code);
            if wanted > 0.0 && best.is_none_or(|(_, best)| wanted > best) {
                best = Some((texts, wanted));
            }
        }
        match best {
            Some((texts, _)) => texts,
            None => first,
        }
    }
}

/// One range of the header: its primary language and its quality, 1 if none is given.
fn range(range: &str) -> (String, f32) {
    let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
    let quality = match parameters.trim().strip_prefix("q=") {
        Some(quality) => quality.trim().parse().unwrap_or(0.0),
        None => 1.0,
    };
    let tag = tag.trim().to_ascii_lowercase();
    (tag.split('-').next().unwrap_or_default().to_owned(), quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_preferred_of_ours() {
        for (header, expected) in [
            (None, "en"),
            (Some(""), "en"),
            (Some("*"), "en"),
            (Some("ja"), "ja"),
            (Some("en-US,en;q=0.9"), "en"),
            (Some("en;q=0.8, ja;q=0.9"), "ja"),
            (Some("fr-FR, en;q=0.5, ja;q=0.4"), "en"),
            (Some("fr"), "en"),
            (Some("ja;q=0, en;q=0.1"), "en"),
        ] {
            assert_eq!(Texts::preferred(header).code, expected, "{header:?}");
        }
    }

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        for (millis, english, japanese) in [
            (0, "0 ms", "0ミリ秒"),
            (999, "999 ms", "999ミリ秒"),
            (1_000, "1 s", "1秒"),
            (61_000, "1 min 1 s", "1分1秒"),
            (3_600_000, "1 h 0 min", "1時間0分"),
            (90_000_000, "1 d 1 h", "1日1時間"),
        ] {
            let length = Duration::from_millis(millis);
            assert_eq!((english::TEXTS.span)(length), english);
            assert_eq!((japanese::TEXTS.span)(length), japanese);
        }
    }

    #[test]
    fn no_text_of_a_language_is_empty() {
        for texts in LANGUAGES {
            let all = format!("{texts:?}");
            assert!(!all.contains(": \"\""), "{}: {all}", texts.code);
        }
    }

    /// The texts of a language that are not functions, by key.
    fn plain(texts: &Texts) -> Vec<(String, String)> {
        let all = format!("{texts:#?}");
        let lines = all.lines().filter_map(|line| line.trim().split_once(": \""));
        lines.map(|(key, text)| (key.to_owned(), text.trim_end_matches("\",").to_owned())).collect()
    }

    #[test]
    fn every_text_is_translated() {
        let (english, japanese) = (plain(&english::TEXTS), plain(&japanese::TEXTS));
        assert!(english.len() > 200 && english.len() == japanese.len());
        for ((key, english), (_, japanese)) in english.iter().zip(&japanese) {
            let is_japanese = japanese.chars().any(|c| ('ぁ'..='龠').contains(&c) || c == 'ー');
            assert!(is_japanese || key == "code", "{key}: {japanese:?} for {english:?}");
            assert!(
                english.is_ascii() || english.contains('—') || key == "name",
                "{key}: {english:?}"
            );
        }
    }

    /// A text in a page would be there in one language only. Page texts begin with a capital
    /// letter or are Japanese; names of headers and zones, errors of requests and log lines are not.
    #[test]
    fn pages_have_no_texts_of_their_own() {
        const ALLOWED: [&str; 6] = [
            "Redis",
            "Enter",
            "Esc",
            "Failed to enqueue job",
            "Failed to read the job queue",
            "The request could not be completed",
        ];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/dashboard");
        let mut looked = 0;
        for part in ["pages", "ui"] {
            for file in std::fs::read_dir(format!("{folder}/{part}")).unwrap() {
                let path = file.unwrap().path();
                let Ok(source) = std::fs::read_to_string(&path) else { continue };
                let source = source.split("#[cfg(test)]").next().unwrap_or_default();
                looked += 1;
                let is_code = |line: &&str| {
                    !line.trim_start().starts_with("//") && !line.contains("Header::new")
                };
                for line in source.lines().filter(is_code) {
                    for text in line.split('"').skip(1).step_by(2) {
                        let is_sentence = text.starts_with(|c: char| c.is_ascii_uppercase())
                            && text.chars().nth(1).is_some_and(|c| c.is_ascii_lowercase())
                            && !text.contains(['-', '/']);
                        let is_japanese = text.chars().any(|c| ('ぁ'..='龠').contains(&c));
                        let is_text = is_sentence && !ALLOWED.contains(&text) || is_japanese;
                        assert!(!is_text, "{}: {text:?}", path.display());
                    }
                }
            }
        }
        assert!(looked > 20, "{looked}");
    }
}
