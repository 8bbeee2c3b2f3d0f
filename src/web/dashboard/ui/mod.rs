//! The components that pages are made of: what is below every page and knows none of them.
//!
//! A page asks the store, makes its content from these parts and hands it to a [`Site`], which
//! puts the navigation around it and turns errors into pages. Nothing here has a route, and
//! nothing here imports a page; maud escapes every value that came from outside.
//!
//! | module | what it makes |
//! | --- | --- |
//! | `page` | the HTML document, its headers, and the response |
//! | `layout` | the frame of an operator's page: navigation, errors, notices |
//! | `access` | the two guards of pages: [`View`] for reading, [`Act`] for forms |
//! | `reader` | where and in which language a page is read; links below the base |
//! | `texts` | every text of every page, one file a language |
//! | `table`, `job_table`, `group_table` | tables, all through one function |
//! | `bulk_form` | the buttons for actions on all jobs of a state, type or group |
//! | `charts` | bars over time with axes, drawn as SVG |
//! | `counts` | the numbers that the navigation carries |
//! | `display` | theme, language and time zone, as the reader chose |
//! | `state` | a job's state as shape and word |
//! | `states` | a job's states over time, as a picture and a list |
//! | `follow` | jobs that a page follows to their ends after an action |
//! | `payload`, `json_tree` | payloads, results and errors of any size, their tree and their download |
//! | `parts` | facts, buttons, instants |
//! | `form` | the fields of a form that was sent; refuses what the page does not have |
//! | `marks` | visible marks for invisible characters, put in every page |
//!
//! A page looks like this:
//!
//! ```ignore
//! #[get("/ui/servers")]
//! async fn show(view: View<'_>) -> Page {
//!     let site = &view.site;
//!     let servers = site.inspector().servers().await;
//!     let content = servers.map(|servers| workers(&site.reader, site.queue.now(), &servers));
//!     site.respond(NavPage::Servers, site.texts().workers_title, content)
//! }
//! ```
//!
//! and a form like this, where [`Act`] has checked the right, the origin and `read_only`:
//!
//! ```ignore
//! #[post("/ui/doctor", data = "<body>")]
//! async fn repair(act: Act<'_>, body: FormBody<'_>) -> FormResult {
//!     act.expect_no_fields(body).await?;
//!     act.redirect(act.site.inspector().doctor().repair().await.map(|report| {
//!         act.audit("store repaired", "", &report.repaired().to_string());
//!         "/ui/doctor?done=repair".to_owned()
//!     }))
//! }
//! ```

pub(crate) mod access;
pub(crate) mod bulk_form;
pub(crate) mod charts;
pub(crate) mod counts;
pub(crate) mod display;
pub(crate) mod follow;
pub(crate) mod form;
pub(crate) mod group_table;
pub(crate) mod job_table;
mod json_tree;
pub(crate) mod layout;
mod marks;
pub(crate) mod page;
pub(crate) mod parts;
pub(crate) mod payload;
pub(crate) mod reader;
pub(crate) mod state;
pub(crate) mod states;
pub(crate) mod table;
pub(crate) mod texts;

pub(crate) use access::{Act, View};
pub(crate) use layout::{NavPage, Site};
pub(crate) use page::HtmlPage;
pub(crate) use reader::Reader;
pub(crate) use texts::Texts;
pub(crate) use texts::deeds::Deed;
