use super::*;
use clap::CommandFactory;
use sr_common::ByteSize;
use sr_policy::OrAll;

fn run(line: &[&str]) -> Result<RunArguments, clap::Error> {
    match Arguments::try_parse_from([&["safe-run", "run"], line].concat())?.command {
        Some(Command::Run(arguments)) => Ok(*arguments),
        other => panic!("{other:?}"),
    }
}

#[test]
fn clap_finds_no_fault_with_itself() {
    Arguments::command().debug_assert();
}

#[test]
fn help_lists_every_command() {
    let all = Arguments::command();
    // The broker, the driver and the victim are nothing for people.
    let (hidden, shown): (Vec<_>, Vec<_>) = all.get_subcommands().partition(|command| command.is_hide_set());
    assert_eq!(
        hidden.iter().map(|command| command.get_name()).collect::<Vec<_>>(),
        ["broker", "monitor", "victim"]
    );
    for command in shown {
        let line = format!("\n  {} ", command.get_name());
        assert!(TEMPLATE.contains(&line), "{} is not in the help", command.get_name());
        assert!(
            command.get_about().is_some(),
            "{} says nothing of itself",
            command.get_name()
        );
    }
}

#[test]
fn the_forms_of_run() {
    assert_eq!(run(&["--", "echo", "hi"]).unwrap().argv, ["echo", "hi"]);
    let a = run(&[
        "--cpu",
        "1",
        "--memory",
        "512MB",
        "--timeout",
        "30s",
        "python3",
        "agent.py",
        "--cpu",
        "9",
        "-v",
    ])
    .unwrap();
    assert_eq!(a.argv, ["python3", "agent.py", "--cpu", "9", "-v"]);
    assert_eq!(a.policy.memory, Some(OrAll::Limit(ByteSize(512_000_000))));
    assert_eq!(run(&["sh", "--", "-c"]).unwrap().argv, ["sh", "--", "-c"]);
    assert_eq!(run(&["--", "--odd"]).unwrap().argv, ["--odd"]);
    assert!(run(&["--policy", "x.yaml"]).unwrap().argv.is_empty());
    assert_eq!(run(&["-e", "A=1", "-e", "B", "true"]).unwrap().policy.env.len(), 2);
}

#[test]
fn a_slip_in_an_option_is_not_taken_for_a_command() {
    for line in [
        &["--memry", "1GB", "true"][..],
        &["--memory", "-5", "true"],
        &["--timeout", "30", "true"],
        &["--cpu", "0", "true"],
    ] {
        assert!(run(line).is_err(), "{line:?}");
    }
}

#[test]
fn exec_needs_a_command() {
    let parsed = Arguments::try_parse_from(["safe-run", "exec", "--", "ls", "-l"]).unwrap();
    assert!(matches!(parsed.command, Some(Command::Exec(e)) if e.run == "last" && e.argv == ["ls", "-l"]));
    assert!(Arguments::try_parse_from(["safe-run", "exec", "last"]).is_err());
}

#[test]
fn run_alone_is_read_as_among_the_other_commands() {
    let lines: [&[&str]; 8] = [
        &["-v", "--cpu", "1", "python3", "a.py", "-v"],
        &["--policy", "strict", "-vv", "--", "--odd"],
        &[],
        &["--help"],
        &["-h"],
        &["--cpus", "1", "true"],
        &["--memory", "x", "true"],
        &["--policy"],
    ];
    for line in lines {
        let words: Vec<OsString> = ["safe-run", "run"].iter().chain(line).map(Into::into).collect();
        match (Arguments::read(&words), Arguments::try_parse_from(&words)) {
            (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
            (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string(), "{line:?}"),
            (one, other) => panic!("{line:?}: {one:?}, {other:?}"),
        }
    }
}
