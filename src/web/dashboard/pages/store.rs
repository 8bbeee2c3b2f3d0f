//! The store: its servers, their settings, and what is wrong with these.
//!
//! A server that hides a value from this user (an ACL without `INFO` or `CONFIG`, a managed
//! service) has no row for it, and the page still works. The warnings are the doctor's findings
//! about settings only; they cost a few commands, while the doctor's own page reads every
//! queue.

use std::time::Duration;

use maud::{Markup, html};
use rocket::{Route, get, routes};

use crate::broker::{StoreInfo, StoreKind, StoreNode};
use crate::web::dashboard::ui::parts::fact;
use crate::web::dashboard::ui::{HtmlPage, NavPage, Site, Texts, View};

/// The servers, and above them the settings under which jobs can be lost.
#[get("/ui/store")]
async fn show(view: View<'_>) -> HtmlPage {
    let site = &view.site;
    let (texts, inspector) = (site.texts(), site.inspector());
    let found = async { Ok((inspector.store().await?, inspector.check_store().await?)) };
    let content = found.await.map(|(store, findings)| {
        html! {
            @if !findings.is_empty() {
                section.notice.bad role="status" {
                    p { (texts.needs_attention) }
                    ul { @for finding in &findings { li { ((texts.finding_name)(finding.kind)) } } }
                }
            }
            (nodes(site, &store))
            p.more {
                a href={ (site.reader.base) "/ui/doctor" } { (texts.doctor_link) }
                " " span.hint { (texts.doctor_hint) }
            }
        }
    });
    site.respond(NavPage::Store, texts.store_title, content)
}

/// The store in one line, and its servers: one, or the masters of a Cluster.
fn nodes(site: &Site<'_>, store: &StoreInfo) -> Markup {
    let (texts, namespace) = (site.texts(), &site.queue.config().namespace);
    html! {
        div.card.facts {
            @match store.kind {
                StoreKind::Memory => p {
                    (texts.store_in_memory)
                    @if let Some(namespace) = namespace { " · " code { (namespace) } }
                },
                _ => p { code { (store.description) } },
            }
            @for node in &store.nodes { dl { (server(texts, node)) } }
        }
    }
}

/// What a server reports about itself. A value it does not reveal is left out.
fn server(texts: &Texts, node: &StoreNode) -> Markup {
    let known = |label: &str, value: Option<String>| {
        html! { @if let Some(value) = value { (fact(label, html! { (value) })) } }
    };
    let megabytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let seconds = |seconds: u64| (texts.span)(Duration::from_secs(seconds));
    let used = match (node.used_memory, node.max_memory.filter(|most| *most > 0)) {
        (Some(used), Some(most)) => Some(format!("{} / {}", megabytes(used), megabytes(most))),
        (used, _) => used.map(megabytes),
    };
    html! {
        (known(texts.address, node.address.clone()))
        (known(node.server.as_deref().unwrap_or("Redis"), node.version.clone()))
        (known(texts.role, node.role.clone()))
        (known(texts.uptime, node.uptime_seconds.map(seconds)))
        (known(texts.memory, used))
        (known(texts.fragmentation, node.fragmentation.map(|ratio| format!("{ratio:.2}"))))
        (known(texts.eviction, node.eviction_policy.clone()))
        (known(texts.evicted_keys, number(node.evicted_keys)))
        (known(texts.persistence, node.persistence.clone()))
        (known(texts.commands, number(node.commands_per_second)))
        (known(texts.clients, number(node.clients)))
        (known(texts.replicas, number(node.replicas)))
    }
}

/// The routes to mount at the base.
pub(crate) fn routes() -> Vec<Route> {
    routes![show]
}
