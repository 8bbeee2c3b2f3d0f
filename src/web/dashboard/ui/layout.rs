//! The frame of an operator's page: the navigation, and what a page shows instead of its
//! content after an error.
//!
//! A page with the navigation is made by [`Site::respond`] from a title and its content or an error.
//! The status of an error is the one that REST would answer, so a page and a program learn the same.

use maud::{Markup, html};
use rocket::http::Status;

use super::counts::NavCounts;
use super::display::{THEMES, local_text};
use super::page::{self, HtmlPage};
use super::parts::grouped;
use super::{Deed, Reader, Texts, parts};
use crate::error::Error;
use crate::inspector::Inspector;
use crate::time::Timestamp;
use crate::web::JobQueue;
use crate::web::error::ProblemDetails;

/// The pages that the navigation names.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum NavPage {
    /// Every queue with its jobs by state.
    Overview,
    /// The search over all queues.
    Jobs,
    /// Failures grouped by error.
    Failures,
    /// How fast and how well each job type runs.
    Types,
    /// What is due when.
    Scheduled,
    /// The periodic jobs of running processes.
    Periodic,
    /// Jobs that wait to be aggregated.
    Groups,
    /// Worker processes and their jobs in flight.
    Servers,
    /// The Redis servers and their settings.
    Store,
    /// Who did what.
    Audit,
    /// The job types to enqueue by hand.
    Enqueue,
    /// A page below one of these.
    Elsewhere,
}

/// The queue that a page is about and the reader it is made for.
pub(crate) struct Site<'r> {
    /// The queue, in the trace of this request.
    pub queue: &'r JobQueue,
    /// Base path and language.
    pub reader: Reader,
    /// The numbers of the navigation, if they are known.
    pub counts: Option<NavCounts>,
    /// The store's time before the page was made: what it shows is not older.
    pub since: Timestamp,
}

impl Site<'_> {
    /// The texts in the reader's language.
    pub(crate) fn texts(&self) -> &'static Texts {
        self.reader.texts
    }

    /// The store as pages may show it, without what [`redact`](crate::JobQueueFairing::redact)
    /// hides.
    pub(crate) fn inspector(&self) -> Inspector {
        self.queue.redacted_inspector()
    }

    /// The page of this content, with status 200, or of the error that kept it from being made.
    pub(crate) fn respond(
        &self,
        place: NavPage,
        title: &str,
        content: Result<Markup, Error>,
    ) -> HtmlPage {
        match content {
            Ok(content) => self.page(Status::Ok, place, title, content),
            Err(error) => self.trouble(&error),
        }
    }

    /// A page with the navigation around its content.
    pub(crate) fn page(
        &self,
        status: Status,
        place: NavPage,
        title: &str,
        content: Markup,
    ) -> HtmlPage {
        HtmlPage(status, framed(self, status, place, title, content))
    }

    /// A page that says what went wrong, with the status it means.
    pub(crate) fn trouble(&self, error: &Error) -> HtmlPage {
        trouble(&self.reader, self.queue, error)
    }

    /// A page about a form that could not be read.
    pub(crate) fn refused(&self, problem: &ProblemDetails) -> HtmlPage {
        let content = page::trouble(self.texts(), problem);
        self.page(problem.status(), NavPage::Elsewhere, self.texts().title, content)
    }

    /// 404: what the page is about does not exist.
    pub(crate) fn missing(&self, what: &str) -> HtmlPage {
        let content = parts::empty(what);
        self.page(Status::NotFound, NavPage::Elsewhere, self.texts().not_found, content)
    }
}

/// A page that says what went wrong, with the status it means, for a request whose guards are
/// not a page's. Damaged data links to the doctor.
pub(crate) fn trouble(reader: &Reader, queue: &JobQueue, error: &Error) -> HtmlPage {
    let problem = ProblemDetails::of_stored(error, "Failed to read the job queue");
    let texts = reader.texts;
    let content = html! {
        (page::trouble(texts, &problem))
        @if error.is_damaged() {
            p.more { a href={ (reader.base) "/ui/doctor" } { (texts.doctor_link) } }
        }
    };
    let site = Site { queue, reader: reader.clone(), since: queue.now(), counts: None };
    let status = problem.status();
    HtmlPage(status, framed(&site, status, NavPage::Elsewhere, texts.title, content))
}

/// How long a page stays as it is at most, in seconds, if nothing that is counted changes: it may
/// show other things too.
const MAX_AGE_SECONDS: u32 = 30;

/// Of when the page is. The script says whether that is still true, and offers to pause.
fn freshness(site: &Site<'_>) -> Markup {
    let (reader, texts) = (&site.reader, site.texts());
    let zone = (!reader.display.is_local).then(|| reader.zone.name());
    html! {
        p.freshness data-freshness data-events={ (reader.base) "/ui/events" }
            data-live=(texts.live) data-paused=(texts.live_paused)
            data-waiting=(texts.live_waiting) data-behind=(texts.live_behind)
            data-lost=(texts.live_lost) data-denied=(texts.live_denied)
            data-still=(texts.as_of) data-zone=[zone] {
            span data-sentence { (texts.as_of.replace("{}", &local_text(site.since, reader.zone))) }
            " " span.count data-age {}
            span.hidden aria-live="polite" data-spoken {}
            button.small type="button" hidden data-pause=(texts.pause_updates)
                data-resume=(texts.resume_updates) {}
        }
    }
}

/// Navigation, title, content and footer. The live script replaces what is marked `data-content`
/// and `data-follow`; the content says of when it is, whether the store was away, and whether it may
/// be fetched again. The desk script copies the numbers in it to the navigation.
fn framed(site: &Site<'_>, status: Status, place: NavPage, title: &str, content: Markup) -> Markup {
    let (reader, config) = (&site.reader, site.queue.config());
    let (base, texts) = (&reader.base, reader.texts);
    let docs = cfg!(feature = "openapi") && config.openapi && config.docs;
    let script = |file: &str| format!("{base}/ui/{file}?v={}", env!("CARGO_PKG_VERSION"));
    let body = html! {
        a.skip href="#content" { (texts.skip_to_content) }
        div.frame {
            (side(site, place))
            main.broad #content tabindex="-1" {
                header { h1 data-follow="title" { (title) } }
                (freshness(site))
                div data-content data-as-of=(site.since) data-every=(MAX_AGE_SECONDS)
                    data-unavailable[status == Status::ServiceUnavailable]
                    data-still[reader.answers_form] {
                    @for (page, count) in counted_pages(site.counts.as_ref()) {
                        data hidden data-for=(page) value=(count) {}
                    }
                    (content)
                }
                @if docs || config.register_route {
                    footer {
                        nav aria-label=(texts.nav_more) {
                            @if config.register_route {
                                a href={ (base) "/ui/register" } { (texts.nav_register) }
                            }
                            @if docs { a href={ (base) "/docs" } { "API" } }
                        }
                    }
                }
            }
        }
        (keys(texts))
        script src=(script("desk.js")) defer {}
        script src=(script("live.js")) defer {}
    };
    page::document(reader, title, body)
}

/// The numbers by the path of their page.
fn counted_pages(counts: Option<&NavCounts>) -> Vec<(&'static str, u64)> {
    let Some(counts) = counts else { return Vec::new() };
    vec![
        ("/ui/jobs", counts.jobs),
        ("/ui/failures", counts.failures),
        ("/ui/scheduled", counts.scheduled),
        ("/ui/groups", counts.groups),
    ]
}

/// A page, its path below the base, and its name.
type NavLink = (NavPage, &'static str, &'static str);

/// What stands beside the page: the search by id, and the links to all pages with their numbers.
fn side(site: &Site<'_>, place: NavPage) -> Markup {
    let (base, texts) = (&site.reader.base, site.texts());
    let counts = counted_pages(site.counts.as_ref());
    let parts: [(&str, &[NavLink]); 2] = [
        (
            texts.nav_jobs,
            &[
                (NavPage::Overview, "/ui", texts.overview),
                (NavPage::Jobs, "/ui/jobs", texts.jobs_title),
                (NavPage::Failures, "/ui/failures", texts.failures_title),
                (NavPage::Types, "/ui/types", texts.types_title),
                (NavPage::Scheduled, "/ui/scheduled", texts.scheduled_title),
                (NavPage::Periodic, "/ui/periodic", texts.nav_periodic),
                (NavPage::Groups, "/ui/groups", texts.groups_title),
                (NavPage::Enqueue, "/ui/enqueue", texts.enqueue),
            ],
        ),
        (
            texts.nav_system,
            &[
                (NavPage::Servers, "/ui/servers", texts.workers_title),
                (NavPage::Store, "/ui/store", texts.store_title),
                (NavPage::Audit, "/ui/audit", texts.audit_title),
            ],
        ),
    ];
    html! {
        header.side {
            a.brand href={ (base) "/ui" } { (logo()) (texts.title) }
            form.find method="get" action={ (base) "/ui/find" } role="search" aria-label=(texts.job_id) {
                label.hidden for="find" { (texts.job_id) }
                input #find name="id" type="search" placeholder=(texts.job_id);
                button.small type="submit" { (texts.find) }
            }
            nav aria-label=(texts.nav_pages) {
                @for (part, pages) in parts {
                    p.part { (part) }
                    @for (to, path, label) in pages {
                        a href={ (base) (path) } aria-current=[(*to == place).then_some("page")] {
                            (label)
                            @if let Some((_, count)) = counts.iter().find(|(page, _)| page == path) {
                                " " span.count data-count=(path) { (grouped(*count)) }
                            }
                        }
                    }
                }
            }
            (choices(&site.reader))
        }
    }
}

/// The choices of how pages look, folded.
fn choices(reader: &Reader) -> Markup {
    let (texts, display) = (reader.texts, &reader.display);
    let themes = [texts.theme_system, texts.theme_light, texts.theme_dark];
    let theme = display.theme.unwrap_or(THEMES[0]);
    let zone = if display.is_local { "local" } else { display.zone.name() };
    let times = [("relative", texts.times_relative), ("absolute", texts.times_absolute)];
    html! {
        details.foot {
            summary { (texts.display) " " span.count { (display.zone.name()) } }
            form.action method="post" action={ (reader.base) "/ui/display" } {
                input type="hidden" name="back" value=(reader.here);
                label for="theme" { (texts.theme) }
                select #theme name="theme" {
                    @for (name, label) in THEMES.into_iter().zip(themes) {
                        option value=(name) selected[name == theme] { (label) }
                    }
                }
                label for="language" { (texts.language) }
                select #language name="language" {
                    option value="" { (texts.language_browser) }
                    @for one in Texts::all() {
                        option value=(one.code) lang=(one.code) selected[one.code == texts.code] { (one.name) }
                    }
                }
                label for="times" { (texts.times) }
                select #times name="times" {
                    @for (name, label) in times {
                        option value=(name) selected[display.absolute == (name == "absolute")] { (label) }
                    }
                }
                label for="zone" { (texts.zone) }
                input #zone name="zone" value=(zone) list="zones" aria-describedby="zone-hint" spellcheck="false";
                datalist #zones { @for name in ZONES { option value=(name) {} } }
                p.hint #zone-hint { (texts.zone_hint) }
                button.small type="submit" { (texts.save) }
            }
        }
    }
}

/// Zones to choose from by a click; any other can be typed.
const ZONES: [&str; 8] = [
    "local",
    "UTC",
    "Asia/Tokyo",
    "Asia/Kolkata",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/Los_Angeles",
];

/// The help on the keys, which the script opens. They can be switched off: speech input and
/// screen readers may use the same ones.
fn keys(texts: &Texts) -> Markup {
    let keys = [
        ("/", texts.key_search),
        ("j", texts.key_next),
        ("k", texts.key_previous),
        ("Enter", texts.key_open),
        ("x", texts.key_select),
        ("?", texts.key_help),
        ("Esc", texts.key_close),
    ];
    html! {
        dialog #keys aria-labelledby="keys-title" data-columns=(texts.columns) data-selected=(texts.key_selected) {
            h2 #keys-title { (texts.keys_title) }
            dl { @for (key, what) in keys { dt { kbd { (key) } } dd { (what) } } }
            label { input.choice #keys-on type="checkbox" checked; (texts.keys_on) }
            form.action method="dialog" { button.small autofocus { (texts.close) } }
        }
    }
}

/// The mark beside the name: lines of a list.
fn logo() -> Markup {
    html! {
        svg viewBox="0 0 20 20" aria-hidden="true" focusable="false" {
            rect width="20" height="20" rx="5" fill="currentColor" {}
            path d="M5 6h10M5 10h10M5 14h5" stroke="var(--card)" stroke-width="2" stroke-linecap="round" {}
        }
    }
}

/// What an operator did, as the page after it says; an unknown action says nothing.
pub(crate) fn notice(texts: &Texts, done: Option<&str>) -> Markup {
    let sentence = match done {
        Some("run") => texts.done_run,
        Some("run_next") => texts.done_run_next,
        Some("archive") => texts.done_archive,
        Some("delete") => texts.done_delete,
        Some("cancel") => texts.done_cancel,
        Some("cancel_waiting") => texts.done_cancel_waiting,
        Some("reschedule") => texts.done_reschedule,
        Some("edit") => texts.done_edit,
        Some("pause") => texts.done_pause,
        Some("resume") => texts.done_resume,
        Some("duplicate") => texts.done_duplicate,
        Some("remove") => texts.done_delete_queue,
        Some("repair") => texts.done_repair,
        Some("fire") => texts.done_run_periodic,
        Some("limit") => texts.done_limit,
        Some("unlimit") => texts.done_unlimit,
        Some("quiet") => texts.done_quiet,
        Some("unquiet") => texts.done_unquiet,
        Some("worker") => texts.done_worker,
        _ => return html! {},
    };
    html! { div.notice.good role="status" { p { (sentence) } } }
}

/// What an action on many did to how many jobs. It is no success that jobs were moved to pending:
/// see [`follow`](super::follow).
pub(crate) fn counted(texts: &Texts, action: Option<&str>, count: u64) -> Markup {
    let deed = deed_to_jobs(action.unwrap_or_default());
    let class = if deed == Deed::RunJobs || count == 0 { "notice" } else { "notice good" };
    html! { div class=(class) role="status" { p { ((texts.done_to_jobs)(deed, count)) } } }
}

/// The action on many jobs with this name in REST.
pub(crate) fn deed_to_jobs(action: &str) -> Deed {
    match action {
        "run" => Deed::RunJobs,
        "archive" => Deed::ArchiveJobs,
        _ => Deed::DeleteJobs,
    }
}
