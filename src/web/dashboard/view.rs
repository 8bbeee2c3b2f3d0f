//! What pages show. Each function makes markup from values and asks nobody
//! anything; maud escapes whatever came from outside.

use maud::{DOCTYPE, Markup, html};

use crate::web::api::registration::{
    Fault, Field, LONGEST_MESSAGE, MOST_DELAY_SECONDS, MOST_RETRIES,
};
use crate::web::dashboard::register::{Notice, TICKET, Values, fault_of};
use crate::web::dashboard::{Language, Reader};
use crate::web::error::{ProblemDetails, UNAVAILABLE};
use crate::web::proxy::IgnoredPrefix;

/// Everything around a page's content.
pub(crate) fn frame(reader: &Reader, title: &str, content: Markup) -> Markup {
    let base = &reader.base;
    let version = env!("CARGO_PKG_VERSION");
    html! {
        (DOCTYPE)
        html lang=(words(reader.language).code) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="stylesheet" href={ (base) "/ui/style.css?v=" (version) };
                link rel="icon" type="image/svg+xml" href={ (base) "/ui/icon.svg?v=" (version) };
            }
            body {
                @if let Some(ignored) = &reader.ignored_prefix {
                    div.notice.bad role="status" { p { (prefix_ignored(reader.language, ignored)) } }
                }
                (content)
            }
        }
    }
}

/// What to do when links would leave the path that a proxy takes off.
fn prefix_ignored(language: Language, ignored: &IgnoredPrefix) -> String {
    use IgnoredPrefix::{NotAPath, Untrusted};
    match (language, ignored) {
        (Language::Japanese, Untrusted(proxy)) => format!(
            "リバースプロキシ {proxy} が X-Forwarded-Prefix を送っていますが、信頼されていません。\
             リンクを正しくするには jobqueue.trusted_proxies に {proxy} を追加してください。"
        ),
        (Language::English, Untrusted(proxy)) => format!(
            "The reverse proxy {proxy} sends X-Forwarded-Prefix but is not trusted, so the links \
             on this page may lead elsewhere: add {proxy} to jobqueue.trusted_proxies."
        ),
        (Language::Japanese, NotAPath(found)) => format!(
            "リバースプロキシの X-Forwarded-Prefix は無視されました。/ops のようなパスが必要ですが、\
             {found:?} でした。このページのリンクは正しくない可能性があります。"
        ),
        (Language::English, NotAPath(found)) => format!(
            "The reverse proxy's X-Forwarded-Prefix is ignored, so the links on this page may \
             lead elsewhere: expected a path such as /ops, found {found:?}."
        ),
    }
}

/// Why somebody may not do or see something.
pub(crate) fn refusal(reader: &Reader, problem: &ProblemDetails) -> Markup {
    let title = match (reader.language, problem.status().code) {
        (Language::Japanese, 401) => "認証が必要です",
        (Language::Japanese, _) => "許可されていません",
        (Language::English, 401) => "Authentication required",
        (Language::English, _) => "Not allowed",
    };
    let content = html! {
        main {
            header { h1 { (title) } }
            (trouble(reader.language, problem))
            p.more { a href={ (reader.base) "/ui" } { (say_back(reader.language)) } }
        }
    };
    frame(reader, title, content)
}

fn say_back(language: Language) -> &'static str {
    match language {
        Language::Japanese => "概要へ戻る",
        Language::English => "Back to the overview",
    }
}

/// The registration page.
pub(crate) fn register(reader: &Reader, values: &Values, notice: &Notice) -> Markup {
    let words = words(reader.language);
    let first_wrong = Field::ALL.into_iter().find(|field| fault_of(notice, *field).is_some());
    let form = html! {
        // The server's own messages are in the page's language and read aloud;
        // the browser's would come before them.
        form method="post" action={ (reader.base) "/ui/register" } novalidate autocomplete="off" {
            input type="hidden" name=(TICKET) value=(uuid::Uuid::new_v4());
            @for field in Field::ALL {
                (entry(
                    reader.language,
                    field,
                    values.of(field),
                    fault_of(notice, field),
                    first_wrong == Some(field),
                ))
            }
            button type="submit" { (words.button) }
        }
    };
    let content = html! {
        main {
            header {
                h1 { (words.title) }
                p { (words.intro) }
            }
            (announcement(reader.language, notice))
            (form)
        }
    };
    frame(reader, words.title, content)
}

fn announcement(language: Language, notice: &Notice) -> Markup {
    let words = words(language);
    match notice {
        Notice::None => html! {},
        Notice::Registered { id, again } => html! {
            div.notice.good role="status" {
                p { @if *again { (words.again) } @else { (words.registered) } }
                p { (words.job_id) " " code #job-id { (id) } }
            }
        },
        Notice::Faults(faults) => html! {
            div.notice.bad role="alert" {
                p { (words.wrong) }
                @for (name, fault) in faults {
                    @if let Fault::Unknown(_) = fault {
                        p { code { (name) } ": " (explain(language, fault)) }
                    }
                }
            }
        },
        Notice::Problem(problem) => html! {
            div.notice.bad role="alert" {
                p { (words.refused) }
                (reason(language, problem))
            }
        },
    }
}

/// A problem where there is nothing else to show.
pub(crate) fn trouble(language: Language, problem: &ProblemDetails) -> Markup {
    html! { div.notice.bad role="alert" { (reason(language, problem)) } }
}

fn reason(language: Language, problem: &ProblemDetails) -> Markup {
    let unavailable = problem.detail() == UNAVAILABLE;
    html! {
        p { @if unavailable { (words(language).unavailable) } @else { (problem.detail()) } }
    }
}

fn entry(
    language: Language,
    field: Field,
    value: &str,
    fault: Option<&Fault>,
    focused: bool,
) -> Markup {
    let name = field.name();
    let (label, hint, placeholder) = words(language).field(field);
    let numeric = field != Field::Message;
    let (hint_id, fault_id) = (format!("{name}-hint"), format!("{name}-error"));
    let described = if fault.is_some() { format!("{fault_id} {hint_id}") } else { hint_id.clone() };
    html! {
        div.field {
            label for=(name) { (label) }
            input #(name) name=(name) type="text" value=(value) placeholder=(placeholder)
                inputmode=[numeric.then_some("numeric")] aria-describedby=(described)
                aria-invalid=[fault.map(|_| "true")] autofocus[focused];
            @if let Some(fault) = fault {
                p.fault #(fault_id) { (explain(language, fault)) }
            }
            p.hint #(hint_id) { (hint) }
        }
    }
}

/// A fault in the reader's language.
fn explain(language: Language, fault: &Fault) -> String {
    match (language, fault) {
        (Language::English, Fault::NotText(_)) => "Enter text.".to_owned(),
        (Language::Japanese, Fault::NotText(_)) => "文字列を入力してください。".to_owned(),
        (Language::English, Fault::NotWhole(_)) => "Enter a whole number.".to_owned(),
        (Language::Japanese, Fault::NotWhole(_)) => "整数を入力してください。".to_owned(),
        (Language::English, Fault::Negative) => "Enter 0 or more.".to_owned(),
        (Language::Japanese, Fault::Negative) => "0以上の値を入力してください。".to_owned(),
        (Language::English, Fault::TooLarge(most)) => format!("Enter at most {most}."),
        (Language::Japanese, Fault::TooLarge(most)) => {
            format!("{most}以下の値を入力してください。")
        }
        (Language::English, Fault::TooLong(most)) => {
            format!("Enter a shorter text, at most {most} bytes.")
        }
        (Language::Japanese, Fault::TooLong(most)) => {
            format!("{most}バイト以下の文字列を入力してください。")
        }
        (Language::English, Fault::Unknown(nearest)) => {
            format!("unknown field; the nearest known is {nearest}")
        }
        (Language::Japanese, Fault::Unknown(nearest)) => {
            format!("不明な項目です（最も近い項目: {nearest}）")
        }
    }
}

/// The words of one language.
struct Words {
    code: &'static str,
    title: &'static str,
    intro: &'static str,
    button: &'static str,
    registered: &'static str,
    again: &'static str,
    job_id: &'static str,
    wrong: &'static str,
    refused: &'static str,
    unavailable: &'static str,
}

fn words(language: Language) -> &'static Words {
    match language {
        Language::Japanese => &JAPANESE,
        Language::English => &ENGLISH,
    }
}

const JAPANESE: Words = Words {
    code: "ja",
    title: "ジョブキュー（参考コード）",
    intro: "指定した時間が経過した後に、サーバーの標準出力へメッセージを1行出力するジョブを登録します。",
    button: "ジョブを登録",
    registered: "ジョブを登録しました。",
    again: "このジョブは登録済みです。",
    job_id: "ジョブID",
    wrong: "入力内容に誤りがあります。",
    refused: "ジョブを登録できませんでした。",
    unavailable: "ジョブキューを利用できません（Redisに接続されていません）。しばらくしてからもう一度お試しください。",
};

const ENGLISH: Words = Words {
    code: "en",
    title: "Job queue (reference code)",
    intro: "Registers a job that prints one line on the server's standard output after a delay.",
    button: "Register job",
    registered: "The job is registered.",
    again: "This job was registered before.",
    job_id: "Job ID",
    wrong: "Some fields are wrong.",
    refused: "The job was not registered.",
    unavailable: "The job queue is unavailable: Redis is not connected. Try again in a moment.",
};

impl Words {
    /// Label, hint and placeholder of a field.
    fn field(&self, field: Field) -> (&'static str, String, &'static str) {
        let japanese = self.code == JAPANESE.code;
        match (field, japanese) {
            (Field::Message, true) => (
                "メッセージ",
                format!("任意。{}KiBまで。", LONGEST_MESSAGE / 1024),
                "Job executed successfully",
            ),
            (Field::Message, false) => (
                "Message",
                format!("Optional, up to {} KiB.", LONGEST_MESSAGE / 1024),
                "Job executed successfully",
            ),
            (Field::DelaySeconds, true) => (
                "遅延時間（秒）",
                format!("任意。空欄または0は180秒（3分）。{MOST_DELAY_SECONDS}（1年）まで。"),
                "180",
            ),
            (Field::DelaySeconds, false) => (
                "Delay in seconds",
                format!(
                    "Optional; empty or 0 means 180 (3 minutes). Up to {MOST_DELAY_SECONDS} (a year)."
                ),
                "180",
            ),
            (Field::MaxRetry, true) => (
                "最大リトライ回数",
                format!("任意。空欄または0は10回。{MOST_RETRIES}回まで。"),
                "10",
            ),
            (Field::MaxRetry, false) => (
                "Retries at most",
                format!("Optional; empty or 0 means 10. Up to {MOST_RETRIES}."),
                "10",
            ),
        }
    }
}
