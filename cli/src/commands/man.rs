//! The manual page: every command with its options, from the same source as `--help`.

use std::io::Write;

use clap::Command;
use clap_mangen::Man;

use crate::failure::Outcome;

/// Writes `jobqueue(1)`: the program, then a section for each command.
pub(crate) fn write(command: &Command, to: &mut dyn Write) -> Outcome {
    let mut command = command.clone();
    command.build();
    let man = Man::new(command.clone());
    man.render_title(to)?;
    man.render_name_section(to)?;
    man.render_synopsis_section(to)?;
    man.render_description_section(to)?;
    man.render_options_section(to)?;
    writeln!(to, ".SH COMMANDS")?;
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        section(one, one.get_name(), to)?;
    }
    man.render_extra_section(to)?;
    Ok(())
}

/// One command, or those below it.
fn section(command: &Command, name: &str, to: &mut dyn Write) -> Outcome {
    let below: Vec<&Command> =
        command.get_subcommands().filter(|one| one.get_name() != "help").collect();
    if !below.is_empty() {
        for one in below {
            section(one, &format!("{name} {}", one.get_name()), to)?;
        }
        return Ok(());
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(to, ".SS \"{name}\"\n{}\n.br", roff(&about))?;
    let own = command.get_arguments().filter(|one| !one.is_global_set() && !one.is_hide_set());
    for argument in own.filter(|one| one.get_id() != "help") {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(to, ".TP\n\\fB{}\\fR\n{}", roff(&argument.to_string()), roff(&help))?;
    }
    Ok(())
}

/// Text that troff does not take for a request.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}
