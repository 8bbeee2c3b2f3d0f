//! Ways to a store, and how a command ends if there is none.

use std::process::Stdio;

use rocket_jobqueue::transfer::Transfer;

use crate::bench::{Host, Ran, Redis, TOKEN, Way, Welcome, configured, with_client, write};

#[test]
fn credentials_are_taken_from_variables_and_files_alone() {
    let redis = Redis::with_password(Some("s3cret"));
    let url = redis.url();
    let refused = Way::none().fails(&["--url", &url, "queue", "list"], 2, "expected no password");
    assert!(!refused.err.contains("s3cret"), "{}", refused.err);
    let variable = Way { variables: vec![("JOBQUEUE_URL".into(), url.clone())], ..Way::default() };
    variable.json(&["queue", "list"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    write(&file, &format!("{url}\n"));
    Way::none().json(&["--url-file", file.to_str().unwrap(), "queue", "list"]);
    for text in [variable.ok(&["stats"]), variable.ok(&["stats", "--json"])] {
        assert!(!text.contains("s3cret"), "{text}");
    }
    // A wrong one is not repeated either.
    let wrong = url.replace("s3cret", "wr0ng");
    let wrong = Way { variables: vec![("JOBQUEUE_URL".into(), wrong)], ..Way::default() };
    let ran = wrong.run(&["queue", "list"]);
    assert!(ran.status != 0 && !ran.err.contains("wr0ng") && !ran.err.is_empty(), "{ran:?}");

    let host = Host::start(None, false);
    let api = ["--api", host.url.as_str()];
    Way::none().fails(&[&api[..], &["queue", "list"]].concat(), 4, "JOBQUEUE_TOKEN");
    let token = folder.path().join("token");
    write(&token, &format!("{TOKEN}\n"));
    let given = ["--token-file", token.to_str().unwrap(), "queue", "list", "--json"];
    Way::none().ok(&[&api[..], &given[..]].concat());
    write(&token, "another");
    Way::none().fails(&[&api[..], &given[..]].concat(), 4, "does not let this token in");
    let credentials = host.url.replace("http://", "http://u:s3cret@");
    let refused = Way::none().fails(&["--api", &credentials, "queue", "list"], 2, "credentials");
    assert!(!refused.err.contains("s3cret"), "{}", refused.err);
}

#[test]
fn the_applications_own_configuration_names_the_store() {
    let redis = Redis::start();
    with_client(&redis, async |client| client.enqueue(Welcome { user: 1 }).await.unwrap().id);
    let url = redis.url();
    let folder = configured(&format!(
        "[debug.databases.jobqueue]\nurl = \"redis://127.0.0.1:1\"\n\
         [ours.databases.jobqueue]\nurl = \"{url}\"\n\
         [shop.databases.jobqueue]\nurl = \"{url}\"\n\
         [shop.jobqueue]\nnamespace = \"shop\"\n\
         [mem.jobqueue]\nstore = \"memory\"\nallow_memory_in_release = true\n"
    ));
    let config = folder.path().to_str().unwrap();
    let with = |profile: &str| Way {
        options: ["--config", config, "--profile", profile].map(str::to_owned).to_vec(),
        variables: Vec::new(),
    };
    assert_eq!(with("ours").json(&["queue", "list"])["queues"][0]["queue"], "mail");
    // In the namespace of the shop there is no queue.
    assert_eq!(with("shop").json(&["queue", "list"])["queues"].as_array().unwrap().len(), 0);
    with("mem").fails(&["queue", "list"], 2, "one process alone");
    let ran: Ran = Ran::of(
        Way::none()
            .command(&["queue", "list"])
            .current_dir(folder.path())
            .env("ROCKET_PROFILE", "ours")
            .output()
            .unwrap(),
    );
    assert!(ran.status == 0 && ran.out.contains("mail"), "{ran:?}");
    Way::none().fails(&["--config", config, "--url", &url, "stats"], 2, "expected one store");
}

#[test]
fn a_folder_on_disk_is_opened_while_nobody_has_it() {
    let redis = Redis::start();
    let id = with_client(&redis, async |client| {
        let id = client.enqueue(Welcome { user: 1 }).await.unwrap().id;
        id.to_string()
    });
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("jobs"), folder.path().join("all.ndjson"));
    Way::direct(&redis).ok(&["export", file.to_str().unwrap()]);
    let way = Way {
        options: vec!["--disk".into(), path.to_str().unwrap().into()],
        variables: Vec::new(),
    };
    way.fails(&["queue", "list"], 3, "expected the folder of a store on disk");
    assert!(!path.exists());
    way.ok(&["import", file.to_str().unwrap(), "--yes"]);
    way.ok(&["job", "archive", &id, "--yes"]);
    assert_eq!(way.json(&["job", "show", &id])["state"], "archived");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let held = runtime.block_on(Transfer::disk(&path)).unwrap();
    way.fails(&["queue", "list"], 2, path.to_str().unwrap());
    drop(held);
}

#[test]
fn a_store_that_is_away_is_status_5() {
    // Nobody listens there.
    let url = "redis://127.0.0.1:1".to_owned();
    let host = Host::at(Some(url.clone()), false);
    let direct = Way { options: vec!["--url".into(), url], ..Way::default() };
    let ways = [direct, Way::rest(&host)];
    for way in &ways {
        for command in [&["queue", "list"][..], &["job", "list"], &["watch", "x"]] {
            let ran = way.run(command);
            assert!(ran.status == 5 && ran.out.is_empty(), "{command:?}: {ran:?}");
        }
    }
    let nobody =
        Way { options: vec!["--api".into(), "http://127.0.0.1:1".into()], ..Way::default() };
    nobody.fails(&["stats"], 5, "127.0.0.1:1");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let redis = Redis::start();
    with_client(&redis, async |client| {
        let jobs = (0..2000).map(|user| Welcome { user }).collect::<Vec<_>>();
        let stored = client.enqueue_all(jobs.into_iter().map(rocket_jobqueue::Draft::new)).await;
        assert_eq!(stored.len(), 2000);
    });
    let way = Way::direct(&redis);
    let mut child = way
        .command(&["job", "list", "--all", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}

#[test]
fn shells_and_man_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(Way::none().ok(&["completion", shell]).contains("archive"), "{shell}");
    }
    let page = Way::none().ok(&["man"]);
    for words in [".TH jobqueue", ".SS \"job list\"", ".SS \"watch\"", "JOBQUEUE_URL"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(Way::none().ok(&["--help"]).contains("Exit status"));
}
