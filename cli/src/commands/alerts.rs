//! What needs attention, by the rules that pages and metrics use.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Cell, Mark, Output, flexible, left};
use crate::store::{Store, list, text};
use crate::text::{away, instant};

pub(crate) async fn run(store: &Arc<dyn Store>, out: &Output) -> Outcome {
    let found = store.alerts().await?;
    let alerts = list(&found["alerts"]);
    if out.json {
        out.value(&found)?;
    } else {
        let now = Utc::now();
        let row = |alert: &Value| {
            vec![
                Cell::marked(text(&alert["rule"]), Mark::Bad),
                Cell::new(alert["queue"].as_str().unwrap_or("-")),
                Cell::new(since(alert, now)),
                Cell::new(text(&alert["message"])),
            ]
        };
        let rows: Vec<Vec<Cell>> = alerts.iter().map(row).collect();
        let columns = [left("ALERT"), flexible("QUEUE"), left("SINCE"), flexible("WHAT")];
        out.table(&columns, &rows, "no alert")?;
        for warning in unchecked(&found) {
            out.note(warning);
        }
    }
    match alerts.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Bad, "")),
    }
}

/// Since when an alert holds: a moment at which it was only seen is no beginning.
pub(crate) fn since(alert: &Value, now: DateTime<Utc>) -> String {
    let at = alert["since"].as_str().and_then(instant);
    match (at, alert["since_is"] == "known") {
        (Some(at), true) => away(at, now),
        (Some(at), false) => format!("seen {}", away(at, now)),
        (None, _) => "?".to_owned(),
    }
}

/// What no rule could be asked about: no alert does not mean that all is well then.
pub(crate) fn unchecked(found: &Value) -> Vec<String> {
    let rules: Vec<&str> = list(&found["unchecked"]).iter().map(text).collect();
    let mut warnings = Vec::new();
    if !rules.is_empty() {
        warnings.push(format!("not checked, because the store did not tell: {}", rules.join(", ")));
    }
    if found["more_queues"] == true {
        warnings.push(format!("only the first {} queues were checked", found["queues_checked"]));
    }
    warnings
}
