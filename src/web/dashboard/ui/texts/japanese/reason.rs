//! Why a job is not running, in Japanese.

use std::time::Duration;

use crate::inspector::{At, Reason, Short};
use crate::job::AfterCancel;
use crate::time::Timestamp;

/// A length of time, in at most two units.
pub(super) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let (day, hour, minute) = (seconds / 86_400, seconds / 3600, seconds / 60);
    match seconds {
        0 => format!("{}ミリ秒", length.as_millis()),
        1..60 => format!("{seconds}秒"),
        60..3600 => format!("{minute}分{}秒", seconds % 60),
        3600..86_400 => format!("{hour}時間{}分", minute % 60),
        _ => format!("{day}日{}時間", hour % 24),
    }
}

/// A part of a sentence with an instant, if that is known.
fn optional(at: &Option<Timestamp>, part: impl Fn(At) -> String) -> String {
    at.map(|at| part(At(at))).unwrap_or_default()
}

/// The sentence of a reason.
pub(super) fn sentence(reason: &Reason) -> String {
    match reason {
        Reason::NoSuchJob { queue, queue_exists: false } => {
            format!("キュー{queue}は存在しません。")
        }
        Reason::NoSuchJob { queue, queue_exists: true } => format!(
            "キュー{queue}にこのジョブはありません。登録されていないか、削除されたか、\
             保持期間なしで成功したか、保持期間が終わりました。"
        ),
        Reason::Unreadable { problem } => {
            format!("ジョブを読めません。ドクターで確認してください: {}", Short(problem))
        }
        Reason::NotListed { state } => {
            let state = super::state_name(*state);
            format!("状態は「{state}」ですが、その一覧にありません。ドクターで修復できます。")
        }
        Reason::QueuePaused { queue, since } => {
            let since = optional(since, |at| format!("{at}から"));
            format!("キュー{queue}は{since}一時停止中です。")
        }
        Reason::NoWorker { queue, last_seen } => {
            let seen = optional(last_seen, |at| format!("（最後に確認: {at}）"));
            format!("キュー{queue}を処理するワーカーがありません{seen}。")
        }
        Reason::WorkersStopping { queue, workers } => {
            format!(
                "キュー{queue}を処理するワーカー{workers}個はすべて受付停止中か終了処理中です。"
            )
        }
        Reason::HigherPriority { queue, higher, pending } => {
            let higher: Vec<String> = higher.iter().map(ToString::to_string).collect();
            format!(
                "ワーカーは厳密な優先順位で動いており、キュー{queue}の前に{}のジョブ{pending}件を\
                 処理します。",
                higher.join("、")
            )
        }
        Reason::InLine { queue, ahead, at_least, workers, slots, in_use } => {
            let place = match ahead {
                0 => format!("キュー{queue}の次のジョブです"),
                _ => {
                    let least = if *at_least { "少なくとも" } else { "" };
                    format!("キュー{queue}でこのジョブの前に{least}{ahead}件あります")
                }
            };
            format!("{place}。ワーカー{workers}個、スロット{slots}個のうち{in_use}個が使用中です。")
        }
        Reason::Due { at, wait } => format!("{}後（{}）に実行予定です。", span(*wait), At(*at)),
        Reason::WaitsForLimit { limit, key, in_use, max, since, ahead, next_at } => {
            let key = match key.is_empty() {
                true => String::new(),
                false => format!("（キー{}）", Short(key)),
            };
            let used = max.map(|max| {
                let since = since.map(|since| format!("{}前から", span(since)));
                format!("{max}件中{in_use}件を{}使用中です。", since.unwrap_or_default())
            });
            let next = optional(next_at, |at| format!("次の開始は{at}以降です。"));
            format!(
                "制限{}{key}の空きを待っています。{}{next}このジョブの前に{ahead}件あります。",
                Short(limit),
                used.unwrap_or_default()
            )
        }
        Reason::Overdue { since, pending } => format!(
            "{}に予定時刻になりました。まもなく待機中になります（待機中{pending}件の後）。",
            At(*since)
        ),
        Reason::WaitsForRetry { at, wait, retried, max_retry, error } => format!(
            "{}後（{}）に再試行します（再試行{retried}/{max_retry}回）。直前のエラー: {}",
            span(*wait),
            At(*at),
            Short(error)
        ),
        Reason::Snoozed { at, wait } => {
            format!("ハンドラーが延期しました。{}後（{}）に実行予定です。", span(*wait), At(*at))
        }
        Reason::NoHandler { job_type, at, wait } => format!(
            "保留中: 取り出したワーカーにジョブタイプ{}のハンドラーがありません。{}後（{}）に\
             再び渡されます。",
            Short(job_type),
            span(*wait),
            At(*at)
        ),
        Reason::Undecodable { since, at, wait, error } => format!(
            "{}から保留中: ペイロードを読み取れません。{}後（{}）に再び渡され、1時間でアーカイブ\
             されます: {}",
            At(*since),
            span(*wait),
            At(*at),
            Short(error)
        ),
        Reason::Suspect { losses } => format!(
            "実行中にワーカーが{losses}回消えました。このようなジョブはプロセスごとに1件ずつ実行\
             されます。"
        ),
        Reason::Running { worker, lease_ends, .. } => {
            let place = match worker {
                Some(worker) => {
                    let since = optional(&worker.started, |at| format!("{at}から"));
                    format!("{}:{}で{since}実行中です", Short(&worker.host), worker.pid)
                }
                None => "実行中です（ワーカーの通知待ち）".to_owned(),
            };
            format!("{place}。リースは{}までです。", At(*lease_ends))
        }
        Reason::WorkerGone { lease_ends: None, .. } => {
            "ワーカーが消え、リースもありません。ドクターで修復できます。".to_owned()
        }
        Reason::WorkerGone { lease_ends, recovered } => {
            let ends = optional(lease_ends, |at| format!("リースの終わりは{at}、"));
            let recovered = optional(recovered, |at| format!("回収は{at}以降です。"));
            format!("ワーカーが消えました。{ends}{recovered}")
        }
        Reason::CancelRequested { then } => {
            let then = match then {
                AfterCancel::Retry => "再試行",
                AfterCancel::Archive => "アーカイブ",
                AfterCancel::Delete => "削除",
            };
            format!("キャンセルが要求されています。その後は{then}されます。")
        }
        Reason::GroupWaits { group, size, oldest, missing, ready_at } => {
            let oldest = optional(oldest, |at| format!("（最初は{at}）"));
            let more = match missing {
                Some(missing) => format!("あと{missing}件"),
                None => "次のジョブ".to_owned(),
            };
            let until = optional(ready_at, |at| format!("、遅くとも{at}まで"));
            format!(
                "グループ{}に{size}件あります{oldest}。{more}を待っています{until}。",
                Short(group)
            )
        }
        Reason::BeingAggregated { group, until } => {
            let until = optional(until, |at| format!("（遅くとも{at}まで）"));
            format!("グループ{}を集約しています{until}。", Short(group))
        }
        Reason::FollowsJob { holder } => {
            format!("一意ロックを持つ実行中のジョブ{holder}の終了を待っています。")
        }
        Reason::LockHeld { queue, holder } => {
            format!("一意ロックはキュー{queue}のジョブ{holder}が持っています。")
        }
        Reason::QueueFull { queue, max_waiting } => {
            format!("キュー{queue}は満杯です（待機の上限{max_waiting}件）。")
        }
        Reason::DeadlinePassed { deadline } => {
            format!("締め切り{}を過ぎました。次の試行でアーカイブされます。", At(*deadline))
        }
        Reason::Archived { at, error } => {
            let at = optional(at, |at| format!("{at}に"));
            let error = match error.is_empty() {
                true => String::new(),
                false => format!(" 直前のエラー: {}", Short(error)),
            };
            format!("{at}アーカイブされました。{error}")
        }
        Reason::Completed { at, kept_until } => {
            let at = optional(at, |at| format!("{at}に"));
            let kept = optional(kept_until, |at| format!("{at}まで保持されます。"));
            format!("{at}成功しました。{kept}")
        }
    }
}
