//! On a terminal: questions, widths, and `top`.

use rocket_jobqueue::Draft;

use crate::bench::{Broken, Host, Redis, Terminal, Way, Welcome, signal, until, with_client};

fn enqueue(redis: &Redis, jobs: u64) -> Vec<String> {
    with_client(redis, async |client| {
        let mut ids = Vec::new();
        for user in 0..jobs {
            ids.push(client.enqueue(Welcome { user }).await.unwrap().id.to_string());
        }
        ids
    })
}

fn pending(way: &Way) -> u64 {
    way.json(&["stats"])["totals"]["sizes"]["pending"].as_u64().unwrap()
}

#[test]
fn a_change_asks_and_only_a_plain_yes_agrees() {
    let redis = Redis::start();
    let way = Way::direct(&redis);
    let ids = enqueue(&redis, 3);
    let terminal = Terminal::start(100, 30);
    terminal.runs(&way, &format!("job archive {}", ids[0]));
    terminal.sees("Archive 1 job");
    terminal.types("n");
    terminal.sees("status=4");
    assert_eq!(pending(&way), 3);
    terminal.runs(&way, &format!("job archive {}", ids[0]));
    terminal.sees("[y/N]");
    terminal.types("y");
    terminal.sees("status=0");
    assert_eq!(pending(&way), 2);
    // What cannot be undone is confirmed by its number, or its name.
    terminal.runs(&way, "job delete --query state:pending");
    terminal.sees("Type 2 to go on");
    terminal.types("y");
    terminal.sees("status=4");
    assert_eq!(pending(&way), 2);
    terminal.runs(&way, "queue delete mail --force");
    terminal.sees("Type mail to go on");
    terminal.types("mail");
    terminal.sees("status=0");
    way.fails(&["queue", "show", "mail"], 3, "mail");
}

#[test]
fn a_table_fits_the_width_and_its_ids_are_whole() {
    let redis = Redis::start();
    let way = Way::direct(&redis);
    let ids = enqueue(&redis, 1);
    let terminal = Terminal::start(90, 20);
    terminal.runs(&way, "job list");
    let screen = terminal.sees("status=0");
    let row =
        screen.lines().find(|line| line.contains(&ids[0])).unwrap_or_else(|| panic!("{screen}"));
    assert!(row.starts_with("pending"), "{screen}");
    // The heading, one line for the job, the status: nothing wrapped.
    let lines = screen.lines().filter(|line| !line.trim().is_empty() && line.trim() != "$");
    assert_eq!(lines.count(), 3, "{screen}");
}

#[test]
fn top_shows_acts_and_says_when_the_store_is_gone() {
    let mut redis = Redis::start();
    let host = Host::start(Some(&redis), true);
    with_client(&redis, async |client| {
        let jobs = (0..3).map(|_| Draft::new(Broken));
        assert!(client.enqueue_all(jobs).await.iter().all(Result::is_ok));
    });
    let way = Way::direct(&redis);
    until(|| (way.json(&["stats"])["totals"]["sizes"]["archived"] == 3).then_some(()));
    let terminal = Terminal::start(120, 32);
    terminal.runs(&way, "top");
    let screen = terminal.sees("archived 3");
    assert!(screen.contains("live, ") && screen.contains("3 failed"), "{screen}");
    terminal.sees("1 workers");

    // Why it failed, and the kind again: three keys.
    terminal.text("3");
    let screen = terminal.sees("mail:broken");
    assert!(screen.contains("smtp \\u{1b}[31mis\\u{202e} down"), "{screen}");
    terminal.text("r");
    terminal.sees("Run all jobs that match");
    terminal.text("y");
    terminal.sees("3 jobs made pending");
    until(|| (way.json(&["stats"])["totals"]["failed_today"] == 6).then_some(()));

    // A queue is paused by its key, after the question.
    terminal.text("1");
    terminal.sees("ENDED/S");
    // The queue `default` may stand before it.
    terminal.text("G");
    terminal.text("p");
    terminal.sees("Pause queue mail?");
    terminal.text("n");
    terminal.sees("nothing was done");
    assert_eq!(way.json(&["queue", "show", "mail"])["info"]["paused"], false);
    terminal.text("py");
    terminal.sees("queue mail paused");

    // A search, and one of its jobs.
    terminal.text("/");
    for _ in 0.."state:active".len() {
        terminal.key("BSpace");
    }
    terminal.types("sate:archived");
    terminal.sees("the nearest is");
    terminal.text("/");
    for _ in 0.."sate:archived".len() {
        terminal.key("BSpace");
    }
    terminal.types("state:archived");
    terminal.sees("archived   mail");
    terminal.key("Enter");
    terminal.sees("payload");
    terminal.key("Escape");

    // A silent store is not called live, and one that is gone neither.
    redis.signal("STOP");
    let screen = terminal.sees("connection lost, as of ");
    assert!(!screen.contains("live, "), "{screen}");
    redis.signal("CONT");
    terminal.sees("live, ");
    redis.kill();
    terminal.sees("connection lost, as of ");
    terminal.text("q");
    // The shell has its screen again.
    let screen = terminal.sees("status=0");
    assert!(!screen.contains("Queues"), "{screen}");
    drop(host);
}

#[test]
fn top_gives_the_terminal_back_when_a_signal_ends_it() {
    let redis = Redis::start();
    let way = Way::direct(&redis);
    enqueue(&redis, 1);
    for (name, status) in [("TERM", "status=143"), ("INT", "status=130"), ("HUP", "status=129")] {
        let terminal = Terminal::start(100, 30);
        terminal.runs(&way, "top");
        terminal.sees("live, ");
        signal(process(&redis.url()), name);
        terminal.sees(status);
        // What is typed is seen again, and a line is a line.
        terminal.types("echo typed-$((40+2))");
        let screen = terminal.sees("typed-42");
        assert!(screen.contains("echo typed-"), "{screen}");
    }
    let redirected = way.run(&["top"]);
    assert!(
        redirected.status == 2 && redirected.err.contains("expected a terminal"),
        "{redirected:?}"
    );
}

/// The `top` that looks at this URL.
fn process(url: &str) -> u32 {
    let pattern = format!("jobqueue --url {url} top");
    let output = std::process::Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    // The shell that started it has the words in quotes.
    found.lines().next().expect("top runs").parse().unwrap()
}
