//! The OpenAPI document and its page.

use super::*;

async fn document(client: &Client) -> Value {
    read(client.get(format!("{BASE}/openapi.json")).dispatch().await).await.1
}

/// What generators stumble over, found in a schema of the document.
fn stumbling_blocks(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let has = |key: &str| fields.contains_key(key);
            // Below `properties` the keys are names.
            if !at.ends_with("/properties") {
                let is_null = fields.get("nullable") == Some(&json!(true));
                if is_null && !(fields.get("type").is_some_and(Value::is_string)) {
                    found.push(format!("{at}: nullable without a type"));
                }
                if is_null && (has("allOf") || has("enum")) {
                    found.push(format!("{at}: nullable beside allOf or enum"));
                }
                let words = fields.get("oneOf").and_then(Value::as_array);
                if words.is_some_and(|all| all.iter().any(|one| one.get("enum").is_some())) {
                    found.push(format!("{at}: a choice between words"));
                }
            }
            for (key, value) in fields {
                stumbling_blocks(&format!("{at}/{key}"), value, found);
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| stumbling_blocks(at, item, found));
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_document_has_nothing_that_generators_stumble_over() {
    let client = client(&[]).await;
    let document = document(&client).await;
    let mut found = Vec::new();
    stumbling_blocks("", &document, &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));

    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    for (name, schema) in schemas {
        assert!(schema["type"] == "object" || schema.get("oneOf").is_some(), "{name}: {schema}");
        assert!(text.contains(&format!("schemas/{name}\"")), "{name} is not used");
    }
    let row = &schemas["JobQueueJobRow"];
    assert_eq!(row["oneOf"][1]["$ref"], "#/components/schemas/JobQueueJobRowCorrupt");
    let corrupt = &schemas["JobQueueJobRowCorrupt"];
    assert_eq!(corrupt["properties"]["row"]["enum"], json!(["corrupt"]));
    assert!(corrupt["required"].as_array().unwrap().contains(&json!("row")));
    // With one a generated Rust client reads no list.
    assert!(row["discriminator"].is_null(), "{row}");
    let state = &schemas["JobQueueJobInfo"]["properties"]["state"];
    assert_eq!(state["enum"].as_array().unwrap().len(), 7, "{state}");
    assert!(state["description"].as_str().unwrap().contains("* `retry`: "), "{state}");
    let worker = &schemas["JobQueueJobInfo"]["properties"]["worker"];
    assert_eq!((&worker["nullable"], &worker["type"]), (&json!(true), &json!("object")));
}

#[tokio::test]
async fn the_document_says_what_the_reference_route_takes_and_answers() {
    let document = document(&client(&[]).await).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.0"));
    assert_eq!(document["servers"][0]["url"], BASE);

    let operation = &document["paths"]["/register"]["post"];
    assert_eq!(operation["operationId"], "register-demo-job");
    assert_eq!(operation["tags"], json!(["jobqueue-demo"]));
    assert_eq!(operation["summary"], "ジョブを登録（参考コード）");
    let description = operation["description"].as_str().unwrap();
    assert!(description.contains("jobqueue.register_route = false"), "{description}");
    assert_eq!(operation["parameters"][0]["name"], "Idempotency-Key");

    let responses = operation["responses"].as_object().unwrap();
    let registered = "#/components/schemas/JobQueueRegistered";
    let schema = &responses["201"]["content"]["application/json"]["schema"];
    assert_eq!(schema["$ref"], registered);
    for status in ["400", "413", "415", "422", "500", "503"] {
        let schema = &responses[status]["content"]["application/problem+json"]["schema"];
        assert_eq!(schema["$ref"], "#/components/schemas/JobQueueProblem", "{status}");
        assert_ne!(responses[status]["description"], "", "{status}");
    }

    let request = &document["components"]["schemas"]["JobQueueRegisterRequest"];
    assert_eq!(request["properties"]["delay_seconds"]["maximum"], 31_536_000.0);
    assert_eq!(request["properties"]["max_retry"]["maximum"], 1000.0);
    assert_eq!(request["required"], Value::Null);
    assert_eq!(request["additionalProperties"], false);
}

#[tokio::test]
async fn every_schema_has_our_prefix_and_every_reference_a_schema() {
    let document = document(&client(&[]).await).await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(schemas.keys().all(|name| name.starts_with("JobQueue")), "{schemas:?}");
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_switched_off_reference_route_is_not_documented() {
    let client = client(&[("jobqueue.register_route", json!(false))]).await;
    assert_eq!(document(&client).await["paths"]["/register"], Value::Null);
}

#[tokio::test]
async fn swagger_ui_is_served_from_the_crate_and_reads_the_document() {
    let client = client(&[]).await;
    let entrance = client.get(format!("{BASE}/docs")).dispatch().await;
    assert_eq!(entrance.headers().get_one("Location"), Some("/api/dm-jobqueue/docs/index.html"));
    let page = client.get(format!("{BASE}/docs/index.html")).dispatch().await;
    assert_eq!(page.content_type(), Some(ContentType::HTML));
    let config = client.get(format!("{BASE}/docs/swagger-ui-config.json")).dispatch().await;
    assert!(config.into_string().await.unwrap().contains("/api/dm-jobqueue/openapi.json"));
    for file in [
        "index.html",
        "swagger-ui-bundle.js",
        "swagger-ui.css",
        "initializer.js",
        "swagger-ui-config.json",
    ] {
        let answer = client.get(format!("{BASE}/docs/{file}")).dispatch().await;
        assert_eq!(answer.status(), Status::Ok, "{file}");
        let policy = answer.headers().get_one("Content-Security-Policy").unwrap().to_owned();
        for rule in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'"] {
            assert!(policy.contains(rule), "{file}: {policy}");
        }
        assert!(!policy.contains("unsafe-eval"), "{policy}");
        let text = answer.into_string().await.unwrap();
        // No later release had a hole in what cleans descriptions of scripts.
        assert!(file != "swagger-ui-bundle.js" || text.contains("version=\"3.4.17\""));
    }
}
