//! The peer built against another commit of the library.

mod peer;

fn main() -> std::process::ExitCode {
    let Some(settings) = std::env::args().nth(1) else {
        eprintln!("usage: chaos-peer <settings as JSON>");
        return std::process::ExitCode::FAILURE;
    };
    peer::run(&settings)
}
