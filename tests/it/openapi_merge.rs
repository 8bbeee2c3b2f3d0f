//! A host that describes its own routes with `rocket_okapi` and merges the
//! queue's document into its own.
use std::collections::BTreeSet;

use rocket::local::asynchronous::Client;
use rocket::serde::json::Json;
use rocket::{get, post, put};
use rocket_jobqueue::{Accepted, Error, Job, JobQueue, Receipt};
use rocket_okapi::settings::OpenApiSettings;
use rocket_okapi::{
    mount_endpoints_and_merged_docs, openapi, openapi_get_routes, openapi_get_routes_spec,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

const BASE: &str = "/api/dm-jobqueue";

/// Named as a type of the queue is in its source.
#[derive(Serialize, JsonSchema)]
struct Health {
    pulse: u8,
}

/// And another.
#[derive(Serialize, JsonSchema)]
struct ProblemDetails {
    mood: String,
}

/// The host's own health.
#[openapi(tag = "host")]
#[get("/pulse")]
fn pulse() -> Json<Health> {
    Json(Health { pulse: 60 })
}

/// The host's own problems.
#[openapi(tag = "host")]
#[get("/mood")]
fn mood() -> Json<ProblemDetails> {
    Json(ProblemDetails { mood: "fine".to_owned() })
}

/// A job of the host.
#[derive(Serialize, serde::Deserialize)]
struct Charge {
    order: u64,
}

impl Job for Charge {
    const TYPE: &'static str = "shop:charge";
}

/// Charges an order.
#[openapi(tag = "host")]
#[post("/orders/<order>")]
async fn charge(order: u64, queue: &JobQueue) -> Result<Accepted, Error> {
    let receipt = queue.enqueue(Charge { order }).await?;
    Ok(queue.accepted(&receipt))
}

/// Charges an order, and says when.
#[openapi(tag = "host")]
#[put("/orders/<order>")]
async fn charge_later(order: u64, queue: &JobQueue) -> Result<Receipt, Error> {
    queue.enqueue(Charge { order }).await
}

#[rocket::async_test]
async fn a_hosts_own_routes_answer_with_our_types_and_their_documentation() {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let host = rocket::custom(figment)
        .attach(JobQueue::fairing().memory().set("jobqueue.worker", false))
        .mount("/", openapi_get_routes![charge, charge_later]);
    let client = Client::tracked(host).await.unwrap();
    let document = client.get("/openapi.json").dispatch().await.into_json::<Value>().await.unwrap();
    let schemas = &document["components"]["schemas"];
    for (method, schema, fields) in [
        ("post", "JobQueueAccepted", vec!["job_id", "status_url"]),
        (
            "put",
            "JobQueueReceipt",
            vec!["due", "existing", "job_id", "queue", "replaced", "replayed", "state"],
        ),
    ] {
        let answers = &document["paths"]["/orders/{order}"][method]["responses"];
        let body = &answers["202"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(body, &format!("#/components/schemas/{schema}"));
        let documented = schemas[schema]["properties"].as_object().unwrap();
        assert_eq!(documented.keys().collect::<Vec<_>>(), fields);
        for status in ["409", "422", "500", "503"] {
            let problem = &answers[status]["content"]["application/problem+json"];
            assert!(problem["schema"]["$ref"].is_string(), "{method} {status}");
        }
        let method: rocket::http::Method = method.parse().unwrap();
        let answer = client.req(method, "/orders/7").dispatch().await;
        assert_eq!(answer.status().code, 202);
        let answer = answer.into_json::<Value>().await.unwrap();
        let mut found: Vec<_> = answer.as_object().unwrap().keys().collect();
        found.sort();
        assert_eq!(found, fields);
    }
}

/// The merged document as the host serves it.
async fn merged() -> String {
    let figment = rocket::Config::figment().merge(("log_level", "off"));
    let mut host = rocket::custom(figment).attach(JobQueue::fairing().memory());
    let settings = OpenApiSettings::default();
    mount_endpoints_and_merged_docs! {
        host, "/".to_owned(), settings,
        "" => openapi_get_routes_spec![pulse, mood],
        BASE => (vec![], JobQueue::openapi()),
    };
    let client = Client::tracked(host).await.expect("nothing is mounted twice");
    client.get("/openapi.json").dispatch().await.into_string().await.unwrap()
}

/// All values below `value` under this key.
fn under<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if name == key {
                    found.push(member);
                }
                under(member, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| under(item, key, found)),
        _ => {}
    }
}

#[rocket::async_test]
async fn a_hosts_document_takes_ours_in() {
    let text = merged().await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.0."), "{}", document["openapi"]);

    let paths = document["paths"].as_object().unwrap();
    let found: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    let ours: Vec<&str> = found.iter().copied().filter(|path| path.starts_with(BASE)).collect();
    for path in ["/register", "/health", "/jobs/{name}/{id}", "/jobs/{type}", "/queues"] {
        assert!(ours.contains(&format!("{BASE}{path}").as_str()), "{path}");
    }
    let hosts: Vec<&str> = found.iter().copied().filter(|path| !path.starts_with(BASE)).collect();
    assert_eq!(hosts, ["/mood", "/pulse"]);
    for path in &ours {
        // A parsed object would hide a repetition.
        assert_eq!(text.matches(&format!("\"{path}\":")).count(), 1, "{path}");
    }

    let mut ids = BTreeSet::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap_or_default();
            assert!(!id.is_empty(), "{method} {path} has no operationId");
            assert!(ids.insert(id), "{id} is used twice");
        }
    }

    let mut references = Vec::new();
    under(&document, "$ref", &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.as_str().unwrap().strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[rocket::async_test]
async fn a_hosts_schemas_keep_their_names_and_ours_have_theirs() {
    let document: Value = serde_json::from_str(&merged().await).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(schemas["Health"]["properties"]["pulse"].is_object());
    assert!(schemas["ProblemDetails"]["properties"]["mood"].is_object());
    let own = json!(JobQueue::openapi());
    let own = own["components"]["schemas"].as_object().unwrap();
    assert!(!own.is_empty());
    for (name, schema) in own {
        assert!(name.starts_with("JobQueue"), "{name} may be an application's own");
        assert_eq!(&schemas[name], schema);
    }
}
