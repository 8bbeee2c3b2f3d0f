//! What needs attention, in Japanese.

use crate::inspector::{At, Found, Short, Window};

/// What an alert found.
pub(super) fn sentence(found: &Found) -> String {
    match found {
        Found::Failures { failed, processed, window } => {
            let when = match window {
                Window::Hour => "直近1時間に".to_owned(),
                Window::Since(at) => format!("分ごとの集計を始めた{}以降、", At(*at)),
                Window::Today => "本日（UTC）、".to_owned(),
            };
            format!("{when}{processed}回の実行のうち{failed}回が失敗しました。")
        }
        Found::Paused { pending: 0 } => "一時停止中です。".to_owned(),
        Found::Paused { pending } => {
            format!("一時停止中です。待機中のジョブが{pending}件あります。")
        }
        Found::Running { jobs: 1, oldest, job_type } => {
            let (id, name) = (Short(oldest.as_str()), Short(job_type));
            format!("ジョブ{id}（{name}）が長時間実行されています。")
        }
        Found::Running { jobs, oldest, job_type } => {
            let (id, name) = (Short(oldest.as_str()), Short(job_type));
            format!("{jobs}件のジョブが長時間実行されています。最長は{id}（{name}）です。")
        }
        Found::Missed { name, tick, last } => {
            let last = match last {
                Some(last) => format!("最後の実行は{}です。", At(*last)),
                None => "これまでの実行は確認できません。".to_owned(),
            };
            format!("定期ジョブ{}は{}に登録されませんでした。{last}", Short(name), At(*tick))
        }
        Found::Vanished { name, last_seen } => format!(
            "定期ジョブ{}を持つプロセスがなくなりました。最後に確認したのは{}です。",
            Short(name),
            At(*last_seen)
        ),
        Found::NoWorker { pending } => {
            format!("処理するワーカーがありません。待機中: {pending}件")
        }
        Found::Waiting { pending } => {
            format!("先頭のジョブが長時間待機しています。待機中: {pending}件")
        }
        Found::Archived { jobs } => {
            format!("直近1時間に{jobs}件のジョブがアーカイブされました。")
        }
        Found::Memory { used, max } => {
            format!("メモリの上限{max}バイトのうち{used}バイトを使用しています。")
        }
        Found::Evicted { keys } => {
            format!("メモリが足りないため、Redisが直近1時間に{keys}個のキーを破棄しました。")
        }
        Found::Setting { kind, place } => {
            format!("{}（{}）", (super::TEXTS.finding_name)(*kind), Short(place))
        }
        Found::WorkersFull { slots, pending } => {
            format!("ワーカーのスロット{slots}個がすべて使用中です。待機中: {pending}件")
        }
        Found::LimitFull { limit, waiting } => {
            format!("制限{}の空きを{waiting}件のジョブが待っています。", Short(limit))
        }
        Found::Unreadable { problem } => format!("キューを読めません: {}", Short(problem)),
        Found::Unnamable { is_empty: true } => {
            "空の名前はキューの名前として使えません。Redisのキュー名の集合から空の要素を削除してください。"
                .to_owned()
        }
        Found::Unnamable { is_empty: false } => {
            "キューの名前がUTF-8ではないため、ここでは表示も処理もできません。作成したプログラムで\
             処理するか削除してください。"
                .to_owned()
        }
    }
}
