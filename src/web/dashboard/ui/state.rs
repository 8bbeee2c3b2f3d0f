//! A job's state as a shape and a word. The colour says it a third time; the sheet has it.
//!
//! Every place that names a state uses [`state`], so that one is recognised at a glance, in print
//! and by readers who see no colours.

use maud::{Markup, html};

use super::Texts;
use crate::job::JobState;

/// The shape and the name of a state.
pub(crate) fn state(texts: &Texts, state: JobState) -> Markup {
    html! { span class={ "state state-" (state.as_str()) } { (shape(state)) ((texts.state_name)(state)) } }
}

/// The shape alone, for a place that has the name beside it.
pub(crate) fn shape(state: JobState) -> Markup {
    // A ring waits, a triangle runs, a clock has a time, an arrow comes again, a cross has failed,
    // a tick has succeeded, and squares gather.
    let (filled, path) = match state {
        JobState::Pending => (false, "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2"),
        JobState::Active => (true, "M4 2l10 6-10 6z"),
        JobState::Scheduled => (false, "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2M8 5v3.5l2.5 1.5"),
        JobState::Retry => (false, "M13.5 8a5.5 5.5 0 1 1-2-4.2M12 1v3H9"),
        JobState::Archived => (false, "M3 3l10 10M13 3L3 13"),
        JobState::Completed => (false, "M2 8.5l4 4 8-9"),
        JobState::Aggregating => (true, "M2 2h5v5H2zM9 9h5v5H9z"),
    };
    html! {
        svg viewBox="0 0 16 16" aria-hidden="true" focusable="false" {
            path class=[filled.then_some("full")] d=(path) {}
        }
    }
}
