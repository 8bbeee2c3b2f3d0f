//! The buttons for actions on all jobs of a state, a type or a group of a queue. Each opens a
//! question with the number of jobs before it acts.
//!
//! The number in the question is the length of the list when the page was made. The action itself
//! covers the jobs that are there when it starts, and the notice afterwards says how many these
//! were.
//!
//! The question is a `details` element, so it opens without a script. Which buttons there are is
//! decided by the state alone; the store refuses the rest, as for single jobs.

use maud::{Markup, html};

use super::layout::deed_to_jobs;
use super::parts::{asked, typed};
use super::reader::escaped;
use super::{Reader, Texts};
use crate::job::JobState;

/// Which jobs of a queue, and about how many these are.
pub(crate) struct Which<'a> {
    /// The list they are in.
    state: JobState,
    /// Only this type.
    job_type: Option<&'a str>,
    /// Only this group.
    group: Option<&'a str>,
    /// Jobs in the list; of a type there may be fewer.
    total: u64,
}

impl<'a> Which<'a> {
    /// The jobs of a state, or only those with one type.
    pub(crate) fn of(state: JobState, job_type: Option<&'a str>, total: u64) -> Self {
        Self { state, job_type, group: None, total }
    }

    /// The jobs of a group.
    pub(crate) fn group(group: &'a str, total: u64) -> Self {
        Self { state: JobState::Aggregating, job_type: None, group: Some(group), total }
    }

    /// The actions that jobs in this state permit, by their names in REST.
    fn actions(&self) -> &'static [&'static str] {
        match self.state {
            JobState::Pending => &["archive", "delete"],
            JobState::Scheduled | JobState::Retry => &["run", "archive", "delete"],
            JobState::Aggregating => &["run", "archive", "delete"],
            JobState::Archived => &["run", "delete"],
            JobState::Completed => &["delete"],
            JobState::Active => &[],
        }
    }

    /// The question: which jobs, and how many.
    fn sentence(&self, texts: &Texts) -> String {
        let (total, state) = (self.total, (texts.state_name)(self.state));
        match (self.job_type, self.group) {
            (_, Some(group)) => (texts.all_of_group)(total, group),
            (Some(name), None) => (texts.all_of_type)(total, state, name),
            (None, None) => (texts.all_of_state)(total, state),
        }
    }
}

/// A button for each action on all of them; nothing if there are no jobs.
pub(crate) fn buttons(reader: &Reader, queue: &str, which: &Which<'_>) -> Markup {
    let (texts, actions) = (reader.texts, which.actions());
    if which.total == 0 || actions.is_empty() {
        return html! {};
    }
    let to = format!("{}/ui/queues/{}/actions", reader.base, escaped(queue));
    html! {
        div.actions role="group" aria-label=(texts.bulk_actions) {
            @for action in actions {
                @let deed = deed_to_jobs(action);
                @let form = html! {
                    form.action method="post" action=(to) {
                        input type="hidden" name="state" value=(which.state.as_str());
                        input type="hidden" name="action" value=(action);
                        // An empty filter is refused.
                        @if let Some(name) = which.job_type { input type="hidden" name="type" value=(name); }
                        @if let Some(name) = which.group { input type="hidden" name="group" value=(name); }
                        @if *action == "delete" { (typed(texts, queue)) }
                        button.small.grave type="submit" { ((texts.deed)(deed).label) }
                    }
                };
                @let consequence = html! {
                    p { (which.sentence(texts)) " " ((texts.deed)(deed).consequence) }
                };
                (asked(texts, deed, consequence, form))
            }
        }
    }
}
