//! As much of a Prometheus as asynqmon asks: one value for each query, looked up
//! by name and labels in an exposition.

use rocket::http::RawStr;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Serves this exposition on a port of its own; the address with its scheme.
pub async fn start(exposition: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let request = String::from_utf8_lossy(&request);
            let query = request.split_once("query=").map_or("", |(_, rest)| rest);
            let query = query.split(['&', ' ']).next().unwrap_or_default();
            let query = RawStr::new(query).url_decode_lossy();
            let body = answer(&exposition, &query).to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let text = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    format!("http://{address}")
}

/// The value of the first metric the query names, for queue `default`.
fn answer(exposition: &str, query: &str) -> Value {
    let begin = query.find("asynq_").unwrap_or_default();
    let name = query[begin..].split('{').next().unwrap_or_default();
    let state = query.split_once("state=\"").and_then(|(_, rest)| rest.split('"').next());
    let label = |name: &str, value: &str| format!("{name}=\"{value}\"");
    let found = exposition.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && line.contains(&label("queue", "default"))
            && state.is_none_or(|state| line.contains(&label("state", state)))
    });
    let value = found.and_then(|line| line.rsplit(' ').next());
    let result: Vec<Value> =
        value.iter().map(|value| json!({"metric": {}, "value": value})).collect();
    json!({"status": "success", "data": {"resultType": "matrix", "result": result}})
}
