//! What keeps the jobs: the servers and their settings, and the check-up of all that lies
//! there.

use maud::{Markup, html};
use rocket::http::Status;
use rocket::response::Redirect;
use rocket::{Route, get, post, routes};

use super::layout::{self, Place, escaped, fact, say};
use super::{Language, Page, Reader};
use crate::broker::{Finding, FindingKind, FindingStatus, StoreInfo, StoreNode};
use crate::inspector::DoctorReport;
use crate::web::JobQueue;
use crate::web::api::{Asked, audit};
use crate::web::guards::{ActAccess, ViewAccess};
use crate::web::origin::SameOrigin;

#[get("/ui/store")]
async fn show(_access: ViewAccess, queue: &JobQueue, reader: Reader) -> Page {
    let (language, inspector) = (reader.language, queue.redacted_inspector());
    let found = async { Ok((inspector.store().await?, inspector.check_store().await?)) };
    match found.await {
        Ok((store, findings)) => {
            let content = html! {
                @if !findings.is_empty() {
                    section.notice.bad role="status" {
                        p { (say(language, "要確認", "Needs a look")) }
                        ul { @for finding in &findings { li { (finding_words(language, finding.kind)) } } }
                    }
                }
                (nodes(language, &store))
                p.more {
                    a href={ (reader.base) "/ui/doctor" } { (say(language, "データを検査", "Check the data")) }
                    " " span.hint {
                        (say(
                            language,
                            "すべてのキューを少しずつ調べます。",
                            "Looks through all queues, page by page.",
                        ))
                    }
                }
            };
            let title = say(language, "ストア", "Store");
            Page(Status::Ok, layout::page(&reader, queue, Place::Store, title, content))
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

fn nodes(language: Language, store: &StoreInfo) -> Markup {
    html! {
        div.card.facts {
            p { (store.description) }
            @for node in &store.nodes { dl { (server(language, node)) } }
        }
    }
}

fn server(language: Language, node: &StoreNode) -> Markup {
    let known = |label: &str, value: Option<String>| {
        html! { @if let Some(value) = value { (fact(label, html! { (value) })) } }
    };
    let megabytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let seconds = |seconds: u64| layout::span(language, std::time::Duration::from_secs(seconds));
    let used = match (node.used_memory, node.max_memory.filter(|most| *most > 0)) {
        (Some(used), Some(most)) => Some(format!("{} / {}", megabytes(used), megabytes(most))),
        (used, _) => used.map(megabytes),
    };
    html! {
        (known(say(language, "アドレス", "Address"), node.address.clone()))
        (known(node.server.as_deref().unwrap_or("Redis"), node.version.clone()))
        (known(say(language, "役割", "Role"), node.role.clone()))
        (known(say(language, "稼働時間", "Up for"), node.uptime_seconds.map(seconds)))
        (known(say(language, "使用メモリー", "Memory"), used))
        (known(say(language, "断片化率", "Fragmentation"), node.fragmentation.map(|ratio| format!("{ratio:.2}"))))
        (known(say(language, "退去ポリシー", "Eviction"), node.eviction_policy.clone()))
        (known(say(language, "退去されたキー", "Evicted keys"), number(node.evicted_keys)))
        (known(say(language, "永続化", "Persistence"), node.persistence.clone()))
        (known(say(language, "コマンド/秒", "Commands a second"), number(node.commands_per_second)))
        (known(say(language, "接続数", "Clients"), number(node.clients)))
        (known(say(language, "レプリカ", "Replicas"), number(node.replicas)))
    }
}

#[get("/ui/doctor?<done>")]
async fn check(access: ViewAccess, queue: &JobQueue, reader: Reader, done: Option<&str>) -> Page {
    let found = async {
        let _place = queue.check_up(access)?;
        queue.redacted_inspector().doctor().await
    };
    match found.await {
        Ok(found) => {
            let language = reader.language;
            let content = html! {
                (layout::notice(language, done))
                (report(&reader, &found))
            };
            let title = say(language, "データの検査", "Check-up");
            Page(Status::Ok, layout::page(&reader, queue, Place::Elsewhere, title, content))
        }
        Err(error) => layout::trouble(&reader, queue, &error),
    }
}

fn report(reader: &Reader, found: &DoctorReport) -> Markup {
    let language = reader.language;
    let looked = match language {
        Language::Japanese => {
            format!("{}個のキューの{}件を調べました。", found.queues.len(), found.entries_checked)
        }
        Language::English => {
            format!(
                "{} entries of {} queues were looked at.",
                found.entries_checked,
                found.queues.len()
            )
        }
    };
    let labels = [
        say(language, "問題", "Finding"),
        say(language, "キュー", "Queue"),
        say(language, "場所", "Place"),
        say(language, "件数", "Entries"),
        say(language, "例", "Such as"),
    ];
    html! {
        p.hint { (looked) }
        @if found.is_healthy() {
            div.card { p { (say(language, "問題はありません。", "Everything is in order.")) } }
        } @else {
            div.card.wide tabindex="0" role="region" aria-label=(labels[0]) {
                table.jobs {
                    thead { tr { @for label in labels { th scope="col" { (label) } } } }
                    tbody { @for finding in &found.findings { (row(reader, finding, &labels)) } }
                }
            }
            div.actions {
                (layout::button(
                    &format!("{}/ui/doctor", reader.base),
                    say(language, "修復", "Mend"),
                    Some(say(
                        language,
                        "修復できるものを修復します。どこにもないジョブは待機列に戻り、二度実行されることがあります。",
                        "Mends what can be mended. Jobs that are in no place go back in line, and may run twice.",
                    )),
                ))
            }
        }
    }
}

fn row(reader: &Reader, finding: &Finding, labels: &[&str; 5]) -> Markup {
    html! {
        tr {
            th.error scope="row" {
                (finding_words(reader.language, finding.kind))
                @if finding.status == FindingStatus::Repaired {
                    " " span.tag { (say(reader.language, "修復済み", "mended")) }
                }
            }
            td data-label=(labels[1]) {
                @if let Some(queue) = &finding.queue {
                    a href={ (reader.base) "/ui/queues/" (escaped(&queue.printable())) } { (queue) }
                } @else { "–" }
            }
            td data-label=(labels[2]) { (finding.place) }
            td data-label=(labels[3]) { (finding.count) }
            td.error data-label=(labels[4]) { (finding.samples.join(", ")) }
        }
    }
}

#[post("/ui/doctor")]
async fn mend(
    _access: ActAccess,
    _origin: SameOrigin,
    asked: Asked,
    queue: &JobQueue,
    reader: Reader,
) -> Result<Redirect, Page> {
    match queue.redacted_inspector().doctor().repair().await {
        Ok(found) => {
            audit(&asked, "store mended", "", &found.repaired().to_string());
            Ok(layout::back(format!("{}/ui/doctor?done=repair", reader.base)))
        }
        Err(error) => Err(layout::trouble(&reader, queue, &error)),
    }
}

/// What a finding means.
pub(super) fn finding_words(language: Language, kind: FindingKind) -> &'static str {
    use FindingKind as Kind;
    let (japanese, english) = match kind {
        Kind::Ghost => ("ジョブのないID", "An id whose job is gone"),
        Kind::Stray => ("別の場所に移ったジョブのID", "An id in a place which its job has left"),
        Kind::WrongState => ("状態の不一致", "A job whose state names another place"),
        Kind::Duplicate => ("重複したID", "An id that is in a list twice"),
        Kind::ActiveWithoutLease => ("リースのない実行中ジョブ", "A running job without a lease"),
        Kind::LeaseWithoutActive => {
            ("実行中でないジョブのリース", "A lease of a job that does not run")
        }
        Kind::StaleDueTime => ("不要な予定時刻", "A due time of a job that does not wait"),
        Kind::Stub => ("メッセージのないジョブ", "What is left of a job without its message"),
        Kind::Orphan => ("どこにもないジョブ", "A job in no place at all"),
        Kind::LockWithoutHolder => ("持ち主のいない一意ロック", "A unique lock whose job is gone"),
        Kind::UnlistedGroup => ("一覧にないグループ", "A group that no aggregator would look at"),
        Kind::UnlistedSet => ("一覧にない集約", "Jobs of an aggregation that nobody knows"),
        Kind::DeadSet => ("終わった集約の名前", "The name of an aggregation that has ended"),
        Kind::OverdueSet => {
            ("期限を過ぎた集約", "An aggregation that should have ended: is an aggregator at work?")
        }
        Kind::WrongType => ("型の異なるキー", "A key of another type than the protocol's"),
        Kind::UnknownKey => ("不明なキー", "A key that nobody of ours writes"),
        Kind::UnreadableMessage => ("読めないメッセージ", "A message that cannot be decoded"),
        Kind::BadCounter => ("数値でないカウンター", "A counter that is no number"),
        Kind::ForeignQueueName => {
            ("扱えないキュー名", "A queue name that other readers stumble over")
        }
        Kind::EvictionPolicy => (
            "メモリーが一杯になるとジョブが失われます（maxmemory-policyをnoevictionに）",
            "The store throws jobs away when it is full: set maxmemory-policy to noeviction",
        ),
        Kind::LockEviction => (
            "メモリーが一杯になると一意ロックと冪等キーが失われます（maxmemory-policyをnoevictionに）",
            "The store throws unique locks and idempotency keys away when it is full: set \
             maxmemory-policy to noeviction",
        ),
        Kind::NoPersistence => (
            "再起動でジョブが失われます（appendonlyを有効に）",
            "The store forgets all jobs when it restarts: switch on the append-only file",
        ),
        Kind::OldServer => {
            ("Redisのバージョンが6.2より前です", "The store is older than Redis 6.2")
        }
        Kind::ClockSkew => (
            "Redisとこのホストの時計が1秒以上ずれています",
            "The clocks of the store and of this host differ by more than a second",
        ),
        Kind::CheckRefused => ("検査できません", "The store refused to be looked at"),
    };
    say(language, japanese, english)
}

/// The routes to mount at the base.
pub(super) fn routes() -> Vec<Route> {
    routes![show, check, mend]
}
