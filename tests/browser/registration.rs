//! The form of the reference job.

use super::*;

#[rstest]
#[case::light("register-light", PLAIN)]
#[case::dark("register-dark", Settings { dark: true, ..PLAIN })]
#[case::phone("register-phone", Settings { phone: true, ..PLAIN })]
#[case::without_scripts("register-without-scripts", Settings { scripts: false, ..PLAIN })]
#[case::japanese("register-ja", Settings { language: "ja", ..PLAIN })]
#[tokio::test]
async fn a_job_is_registered_by_keyboard(#[case] name: &str, #[case] settings: Settings) {
    let pages = pages().await;
    let browser = Browser::open(settings).await;
    browser.client.goto(&format!("{pages}/register")).await.expect("the page opens");
    let japanese = settings.language == "ja";
    let title = browser.client.title().await.expect("a title");
    assert_eq!(title == "ジョブキュー（サンプルジョブ）", japanese, "{title}");
    assert_eq!(browser.see("h1").await, title);
    browser.shoot(name).await;

    for typed in ["from a keyboard", "60", "3"] {
        browser.tab().await;
        browser.keys(typed).await;
    }
    assert_eq!(browser.value("#delay_seconds").await, "60");
    browser.keys(&Key::Enter.to_string()).await;

    let said = browser.see("[role=status]").await;
    let expected =
        if japanese { "ジョブを登録しました。" } else { "The job is registered." };
    assert!(said.contains(expected), "{said}");
    let id = browser.see("#job-id").await;
    assert_eq!(id.len(), 36, "{id}");
    assert_eq!(browser.value("#message").await, "");
    browser.shoot(&format!("{name}-done")).await;

    // A reload sends the same form again, and gets the same job.
    browser.client.refresh().await.expect("the page reloads");
    assert_eq!(browser.see("#job-id").await, id);
    browser.close().await;
}

#[rstest]
#[case::light("register-wrong-light", PLAIN)]
#[case::dark_phone_without_scripts(
    "register-wrong-dark-phone",
    Settings { dark: true, phone: true, scripts: false, ..PLAIN }
)]
#[tokio::test]
async fn what_is_wrong_is_said_where_it_is_wrong(#[case] name: &str, #[case] settings: Settings) {
    let pages = pages().await;
    let browser = Browser::open(settings).await;
    browser.client.goto(&format!("{pages}/register")).await.expect("the page opens");
    for typed in ["keep me", "-1", "many"] {
        browser.tab().await;
        browser.keys(typed).await;
    }
    // On to the button, and press it.
    browser.tab().await;
    browser.keys(" ").await;

    assert_eq!(browser.see("[role=alert]").await, "Some fields are invalid.");
    assert_eq!(browser.see("#delay_seconds-error").await, "Enter 0 or more.");
    assert_eq!(browser.see("#max_retry-error").await, "Enter a whole number.");
    for (field, kept) in [("message", "keep me"), ("delay_seconds", "-1"), ("max_retry", "many")] {
        assert_eq!(browser.value(&format!("#{field}")).await, kept);
    }
    let focused = browser.client.active_element().await.expect("something has the focus");
    assert_eq!(focused.attr("id").await.expect("an attribute").as_deref(), Some("delay_seconds"));
    browser.shoot(name).await;
    browser.close().await;
}

#[rstest]
#[case::light("overview-light", PLAIN)]
#[case::dark_phone("overview-dark-phone", Settings { dark: true, phone: true, ..PLAIN })]
#[tokio::test]
async fn the_overview_counts_what_the_form_registered(
    #[case] name: &str,
    #[case] settings: Settings,
) {
    let pages = pages().await;
    let browser = Browser::open(settings).await;
    browser.client.goto(&pages).await.expect("the page opens");
    let to_form = browser.client.find(Locator::Css("nav a[href$='/register']")).await;
    to_form.expect("a link to the form").click().await.expect("a click");
    browser.see("form").await;
    for key in [Key::Tab, Key::Enter] {
        browser.keys(&key.to_string()).await;
    }
    browser.see("#job-id").await;

    browser.client.goto(&pages).await.expect("the page opens");
    assert_eq!(browser.see("tbody th").await, "default");
    assert_eq!(browser.see("tbody td:nth-of-type(3)").await, "1", "scheduled");
    browser.shoot(name).await;
    browser.close().await;
}
