//! Everything at a glance: the store, the workers, the queues.

use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::queue::{self, STATES};
use super::worker::busy;
use crate::failure::Outcome;
use crate::output::{Cell, Mark, Output};
use crate::store::{Store, count, list};
use crate::text::bytes;

pub(crate) async fn run(store: &Arc<dyn Store>, out: &Output) -> Outcome {
    let queues = store.queues().await?;
    let workers = store.servers().await?;
    // An ACL may hide it; the rest is worth showing.
    let info = store.info().await.unwrap_or_default();
    let totals = totals(&queues);
    if out.json {
        return out.value(&json!({
            "at": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            "store": store.describe(),
            "info": info,
            "workers": list(&workers["servers"]).len(),
            "totals": totals,
            "queues": queues["queues"],
        }));
    }
    let servers = list(&workers["servers"]);
    let slots: i64 = servers.iter().filter_map(|one| one["concurrency"].as_i64()).sum();
    let used: u64 = servers.iter().map(busy).sum();
    let workers = match servers.len() {
        0 => Cell::marked("none is announced: no job runs", Mark::Warn),
        many => Cell::new(format!("{many} processes, {used} of {slots} slots in use")),
    };
    let (ended, failed) = (count(&totals["processed_today"]), count(&totals["failed_today"]));
    let today = format!("{ended} attempts ended, {failed} of them failed");
    let mut facts = vec![("store", Cell::new(store.describe()))];
    facts.extend(list(&info["nodes"]).iter().map(|node| ("server", Cell::new(server(node)))));
    facts.extend([
        ("workers", workers),
        ("today (UTC)", Cell::marked(today, if failed > 0 { Mark::Warn } else { Mark::Plain })),
    ]);
    out.facts(&facts)?;
    out.line("")?;
    queue::table(out, &queues)?;
    let unreadable = count(&totals["unreadable"]);
    if unreadable > 0 {
        out.note(format!("{unreadable} queues cannot be read, and are not in these counts"));
    }
    Ok(())
}

/// A server of the store in a line: what it tells.
fn server(node: &Value) -> String {
    let mut parts = Vec::new();
    let name = node["server"].as_str().unwrap_or("Redis");
    parts.extend(node["version"].as_str().map(|version| format!("{name} {version}")));
    parts.extend(node["address"].as_str().map(str::to_owned));
    parts.extend(node["role"].as_str().map(str::to_owned));
    if let Some(used) = node["used_memory"].as_u64() {
        let most = node["max_memory"].as_u64().filter(|most| *most > 0);
        let of = most.map(|most| format!(" of {}", bytes(most))).unwrap_or_default();
        parts.push(format!("{}{of} in use", bytes(used)));
    }
    parts.extend(node["persistence"].as_str().map(str::to_owned));
    if parts.is_empty() { "tells nothing".to_owned() } else { parts.join(", ") }
}

/// The sums over all queues that can be read.
pub(crate) fn totals(queues: &Value) -> Value {
    let infos: Vec<&Value> = list(&queues["queues"]).iter().map(|queue| &queue["info"]).collect();
    let sum = |value: &dyn Fn(&Value) -> u64| infos.iter().map(|info| value(info)).sum::<u64>();
    let mut sizes = Map::new();
    for state in STATES {
        sizes.insert(state.to_owned(), json!(sum(&|info| count(&info["sizes"][state]))));
    }
    json!({
        "sizes": sizes,
        "size": sum(&|info| count(&info["size"])),
        "processed_today": sum(&|info| count(&info["processed_today"])),
        "failed_today": sum(&|info| count(&info["failed_today"])),
        "paused": sum(&|info| u64::from(info["paused"] == true)),
        "unreadable": sum(&|info| u64::from(info.is_null())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_cannot_be_read_is_counted_as_such() {
        let queues = json!({ "queues": [
            { "queue": "a", "info": { "sizes": { "pending": 2 }, "size": 2, "processed_today": 5 } },
            { "queue": "b", "info": null, "problem": "x" },
        ] });
        let totals = totals(&queues);
        assert_eq!((count(&totals["size"]), count(&totals["unreadable"])), (2, 1));
        assert_eq!(count(&totals["sizes"]["pending"]), 2);
    }
}
