//! Mandatory access control that a policy names: the profile is in force from the first instruction, as the kernel itself
//! says; it denies what the view alone allows; nothing leads out of it. AppArmor's, on the rig, whose kernels have it: one
//! that leaves user namespaces alone, and one whose profiles must allow them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fs;
use support::apparmor::Profile;
use support::{End, LIMIT, Place, Ran, Test, end, needs, on_the_rig};

fn main() {
    support::main(&[
        ("a_module_that_is_not_there", a_module_that_is_not_there),
        ("a_profile_of_the_policys", a_profile_of_the_policys),
        (
            "a_profile_of_the_policys_for_a_user",
            a_profile_of_the_policys_for_a_user,
        ),
        ("a_profile_that_cannot_be_left", a_profile_that_cannot_be_left),
        ("a_profile_that_is_not_loaded", a_profile_that_is_not_loaded),
        ("a_profile_that_only_complains", a_profile_that_only_complains),
        ("a_profile_that_lets_no_signal_in", a_profile_that_lets_no_signal_in),
        ("a_profile_for_who_joins", a_profile_for_who_joins),
        ("a_profile_without_an_exec_stop", a_profile_without_an_exec_stop),
        ("a_profile_upon_safe_runs_own", a_profile_upon_safe_runs_own),
        ("a_profile_as_operations_has_it", a_profile_as_operations_has_it),
        ("a_profile_that_only_names_safe_run", a_profile_that_only_names_safe_run),
        ("a_profile_for_user_namespaces", a_profile_for_user_namespaces),
        (
            "a_profile_that_keeps_user_namespaces",
            a_profile_that_keeps_user_namespaces,
        ),
    ]);
}

/// The view gives `/tmp`, and programs; this takes some of it away.
const RULES: &str = "file,\n signal,\n ptrace,\n deny /tmp/kept w,\n deny /**/id x,";

/// What of it is allowed.
const TRY: &str = "import errno, os, subprocess\n\
    def of(call, *words):\n    try: call(*words); return 'done'\n    except OSError as e: return errno.errorcode[e.errno]\n\
    print(of(open, '/tmp/kept', 'w'), of(open, '/tmp/other', 'w'), of(subprocess.check_output, ['id']), of(subprocess.check_output, ['true']))\n\
    print(open('/proc/self/attr/apparmor/current').read().strip())\n\
    print(subprocess.check_output(['cat', '/proc/self/attr/apparmor/current'], text=True).strip())";

/// `--policy FILE` of one that says `clauses`.
fn policy(place: &Place, clauses: &str) -> [String; 2] {
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: m}}\nextends: standard\nruntime: {{command: /bin/true, args: []}}\nmounts: []\n{clauses}\n"
    );
    let file = place.root().join("policy.yaml");
    fs::write(&file, text).expect("a policy");
    ["--policy".into(), file.to_str().expect("UTF-8").into()]
}

fn apparmor(place: &Place, profile: &str) -> [String; 2] {
    policy(place, &format!("mac: {{apparmor: {profile}}}"))
}

/// `safe-run run --policy FILE -- COMMAND`.
fn words<'a>(policy: &'a [String; 2], command: &[&'a str]) -> Vec<&'a str> {
    let [flag, file] = policy;
    [&["run", "--quiet", flag, file, "--"], command].concat()
}

fn run(place: &Place, policy: &[String; 2], command: &[&str]) -> Ran {
    place.tell(&words(policy, command))
}

/// The only line about it in `lines`.
fn only_line(lines: &Value) -> Result<&Value, End> {
    let found: Vec<&Value> = lines
        .as_array()
        .into_iter()
        .flatten()
        .filter(|line| line["control"] == "mac")
        .collect();
    ensure!(found.len() == 1, "{found:?} of {lines}");
    Ok(found[0])
}

/// Obligation, posture and verification say that `label` held the last run.
fn recorded(place: &Place, label: &str, enforced: bool) -> Test {
    let report = place.report();
    let obligation = only_line(&report["obligations"])?;
    ensure!(obligation["enforced"] == enforced, "{obligation}");
    if enforced {
        let line = only_line(&report["posture"])?;
        let observed = format!("attr/apparmor/current: {label}");
        ensure!(line["holds"] == true && line["observed"] == observed.as_str(), "{line}");
    }
    place.tell(&["report", "verify"]).ok()
}

/// Nothing ran; why is said, and recorded.
fn refused(place: &Place, ran: &Ran, said: &[&str]) -> Test {
    ran.ended(125)?;
    ensure!(ran.out.is_empty(), "{ran}");
    for words in said {
        ensure!(ran.err.contains(words), "{words:?} is not said: {ran}");
    }
    ensure!(place.report()["result"]["cause"] == "supervisor", "{}", place.report());
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

/// Both are never on: what the host lacks is refused, unless the policy accepts that.
fn a_module_that_is_not_there(place: &Place) -> Test {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    let (clause, name) = match enabled.trim() {
        "Y" => ("selinux", "user_u:user_r:sandbox_t:s0"),
        _ => ("apparmor", "safe-run-program"),
    };
    let mac = format!("mac: {{{clause}: \"{name}\"}}");
    let ran = run(place, &policy(place, &mac), &["echo", "started"]);
    let found = format!("SR-RUN-001 launch.preflight.mac: mac.{clause}: ");
    refused(place, &ran, &[&found, "is not on here", "degrade: [mac]"])?;
    let ran = run(
        place,
        &policy(place, &format!("{mac}\ndegrade: [landlock]")),
        &["echo", "started"],
    );
    refused(place, &ran, &[&found])?;
    let ran = run(
        place,
        &policy(place, &format!("{mac}\ndegrade: [mac]")),
        &["echo", "started"],
    );
    ran.ok()?;
    ensure!(ran.out == "started\n", "{ran}");
    recorded(place, "", false)?;
    let report = place.report();
    ensure!(
        !report["posture"].to_string().contains("\"mac\""),
        "{}",
        report["posture"]
    );
    place.nothing_left()
}

fn a_profile_of_the_policys(place: &Place) -> Test {
    needs(place, "python3")?;
    let profile = Profile::load(place, "of-policy", "", RULES)?;
    let ran = run(place, &apparmor(place, &profile.name), &["python3", "-c", TRY]);
    ran.ok()?;
    let label = format!("{} (enforce)", profile.name);
    ensure!(
        ran.out == format!("EACCES done EACCES done\n{label}\n{label}\n"),
        "{ran}"
    );
    recorded(place, &label, true)?;
    // The same view without it.
    let ran = run(place, &policy(place, ""), &["python3", "-c", TRY]);
    ran.ok()?;
    ensure!(ran.out == "done done done done\nunconfined\nunconfined\n", "{ran}");
    let doctor = place.tell(&["doctor"]);
    ensure!(
        doctor.out.contains("AppArmor; safe-run itself is unconfined"),
        "{doctor}"
    );
    profile.remove(place)?;
    place.nothing_left()
}

fn a_profile_of_the_policys_for_a_user(place: &Place) -> Test {
    needs(place, "python3")?;
    let profile = Profile::load(place, "of-policy", "", RULES)?;
    let policy = apparmor(place, &profile.name);
    let mut command = place.as_nobody()?;
    command.args(words(&policy, &["python3", "-c", TRY]));
    let ran = end(command, b"", LIMIT);
    ran.ok()?;
    let label = format!("{} (enforce)", profile.name);
    ensure!(
        ran.out == format!("EACCES done EACCES done\n{label}\n{label}\n"),
        "{ran}"
    );
    let line = only_line(&place.report()["posture"])?.clone();
    ensure!(line["holds"] == true, "{line}");
    profile.remove(place)?;
    place.nothing_left()
}

/// A profile that itself lets its programs change to any other: no_new_privs does not.
fn a_profile_that_cannot_be_left(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = "import errno, os, subprocess, sys\n\
        for file in 'current', 'exec':\n\
        \x20   for word in 'changeprofile unconfined', 'exec unconfined', 'changeprofile ' + sys.argv[1], 'exec ' + sys.argv[1]:\n\
        \x20       fd = os.open('/proc/self/attr/apparmor/' + file, os.O_WRONLY)\n\
        \x20       try: os.write(fd, word.encode()); print(file, word, 'done')\n\
        \x20       except OSError as e: print(file, word, errno.errorcode[e.errno])\n\
        for program in '/usr/bin/uname', '/usr/bin/nproc':\n\
        \x20   try: subprocess.check_output([program]); print(program, 'done')\n\
        \x20   except OSError as e: print(program, errno.errorcode[e.errno])\n\
        print(open('/proc/self/attr/apparmor/current').read().strip(), flush=True)\n\
        os.execvp('cat', ['cat', '/proc/self/attr/apparmor/current'])";
    let other = Profile::load(place, "other", "", "file,\n signal,")?;
    let rules = format!(
        "{RULES}\n change_profile,\n /usr/bin/uname px -> {},\n /usr/bin/nproc ux,",
        other.name
    );
    let profile = Profile::load(place, "of-policy", "", &rules)?;
    let command = ["python3", "-c", script, other.name.as_str()];
    let ran = run(place, &apparmor(place, &profile.name), &command);
    ran.ok()?;
    let label = format!("{} (enforce)", profile.name);
    ensure!(!ran.out.contains("done"), "{ran}");
    for word in ["current changeprofile", "exec exec"] {
        for name in ["unconfined", other.name.as_str()] {
            ensure!(ran.out.contains(&format!("{word} {name} EPERM\n")), "{ran}");
        }
    }
    ensure!(
        ran.out.contains("/usr/bin/uname EPERM\n/usr/bin/nproc EPERM\n"),
        "{ran}"
    );
    ensure!(ran.out.ends_with(&format!("{label}\n{label}\n")), "{ran}");
    recorded(place, &label, true)?;
    // Without no_new_privs its own rule is all that counts.
    let mut bare = profile.command(place);
    bare.args(command);
    let ran = end(bare, b"", LIMIT);
    ensure!(
        ran.out.contains("current changeprofile unconfined done\n")
            && ran.out.ends_with(&format!("{} (enforce)\n", other.name)),
        "the control: {ran}"
    );
    other.remove(place)?;
    profile.remove(place)?;
    place.nothing_left()
}

fn a_profile_that_is_not_loaded(place: &Place) -> Test {
    on_the_rig()?;
    for clauses in ["", "\ndegrade: [mac]"] {
        let policy = policy(place, &format!("mac: {{apparmor: safe-run-none}}{clauses}"));
        let ran = run(place, &policy, &["echo", "started"]);
        let said = "put the program behind the AppArmor profile safe-run-none: No such file";
        refused(place, &ran, &["SR-RUN-001", said, "apparmor_parser --replace"])?;
    }
    Ok(())
}

/// Such a profile denies nothing.
fn a_profile_that_only_complains(place: &Place) -> Test {
    let profile = Profile::load(place, "complains", "flags=(complain)", RULES)?;
    let ran = run(place, &apparmor(place, &profile.name), &["echo", "started"]);
    let said = format!("attr/apparmor/current: {} (complain)", profile.name);
    refused(place, &ran, &["SR-RUN-002 launch.posture.mac", &said, "aa-enforce"])?;
    let line = only_line(&place.report()["posture"])?.clone();
    ensure!(line["holds"] == false, "{line}");
    profile.remove(place)
}

/// The program would hear of no request to end.
fn a_profile_that_lets_no_signal_in(place: &Place) -> Test {
    let profile = Profile::load(place, "deaf", "", "file,")?;
    let ran = run(place, &apparmor(place, &profile.name), &["echo", "started"]);
    let said = "signal (receive) peer=unconfined,";
    refused(place, &ran, &["SR-RUN-002 launch.posture.mac", said])?;
    profile.remove(place)?;
    // That one rule is enough, and it does hear of it.
    let profile = Profile::load(place, "hears", "", "file,\n signal (receive) peer=unconfined,")?;
    let [flag, file] = apparmor(place, &profile.name);
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    // Only shells without processes of their own: the profile lets them signal nobody.
    let run = place.start(&[&flag, &file, "--", "sh", "-c", script])?;
    ensure!(run.cancel()? == 3, "the program did not hear of it");
    profile.remove(place)?;
    place.nothing_left()
}

fn a_profile_for_who_joins(place: &Place) -> Test {
    needs(place, "python3")?;
    let profile = Profile::load(place, "of-policy", "", RULES)?;
    let [flag, file] = apparmor(place, &profile.name);
    let run = place.start(&[&flag, &file, "--", "sh", "-c", "echo ready; sleep 100"])?;
    let ran = place.tell(&["exec", "last", "--", "python3", "-c", TRY]);
    ran.ok()?;
    let label = format!("{} (enforce)", profile.name);
    ensure!(
        ran.out == format!("EACCES done EACCES done\n{label}\n{label}\n"),
        "{ran}"
    );
    let events = place.events("exec.started");
    ensure!(events.len() == 1, "{events:?}");
    let line = only_line(&events[0]["data"]["posture"])?;
    ensure!(
        line["holds"] == true && line["observed"].to_string().contains(&label),
        "{line}"
    );
    run.cancel()?;
    profile.remove(place)?;
    place.nothing_left()
}

/// What the exec does is not seen there, and not claimed; it holds all the same.
fn a_profile_without_an_exec_stop(place: &Place) -> Test {
    let switch = "/proc/sys/kernel/yama/ptrace_scope";
    let profile = Profile::load(place, "of-policy", "", RULES)?;
    let policy = policy(
        place,
        &format!("mac: {{apparmor: {}}}\ndegrade: [postureAtExec]", profile.name),
    );
    let before = fs::read_to_string(switch)?;
    fs::write(switch, "2")?;
    let mut command = place.as_nobody()?;
    command.args(words(&policy, &["cat", "/proc/self/attr/apparmor/current"]));
    let ran = end(command, b"", LIMIT);
    fs::write(switch, before.trim())?;
    ran.ok()?;
    ensure!(ran.out == format!("{} (enforce)\n", profile.name), "{ran}");
    let line = only_line(&place.report()["posture"])?.clone();
    ensure!(
        line["holds"] == true && line["observed"].to_string().contains("not executed yet"),
        "{line}"
    );
    profile.remove(place)?;
    place.nothing_left()
}

/// Safe-Run is held by a profile itself: the program by both, never by less.
fn a_profile_upon_safe_runs_own(place: &Place) -> Test {
    needs(place, "python3")?;
    const FLAGS: &str = "flags=(attach_disconnected)";
    let all = format!("{}\n deny /tmp/other w,", safe_runs_own(mediates_user_namespaces()));
    let profile = Profile::load(place, "of-policy", "", RULES)?;
    let holder = Profile::load(place, "holder", FLAGS, &format!("{all}\n change_profile,"))?;
    let policy = apparmor(place, &profile.name);
    let ran = holder.holding(place, &words(&policy, &["python3", "-c", TRY]));
    ran.ok()?;
    let label = format!("{}//&{} (enforce)", holder.name, profile.name);
    ensure!(
        ran.out == format!("EACCES EACCES EACCES done\n{label}\n{label}\n"),
        "{ran}"
    );
    recorded(place, &label, true)?;
    holder.remove(place)?;
    // One that lets it change to no other.
    let holder = Profile::load(place, "holder", FLAGS, &all)?;
    let ran = holder.holding(place, &words(&policy, &["echo", "started"]));
    refused(place, &ran, &["SR-RUN-001 launch.preflight.mac", "change_profile"])?;
    holder.remove(place)?;
    profile.remove(place)?;
    place.nothing_left()
}

fn a_profile_as_operations_has_it(place: &Place) -> Test {
    on_the_rig()?;
    let document = include_str!("../../../OPERATIONS.md");
    let block = document.split("```").find(|block| block.contains("profile job "));
    let name = format!("safe-run-{}-job", place.mark());
    let text = block.expect("an example").replace("job", &name);
    let profile = Profile::of_text(place, name, &text)?;
    let script = "cp /bin/true /tmp/mine; /tmp/mine; echo $?; sleep 60 & kill $!; wait $!; echo $?; echo x | cat";
    let command = ["sh", "-c", script];
    let ran = run(place, &apparmor(place, &profile.name), &command);
    ran.ok()?;
    ensure!(ran.out == "126\n143\nx\n", "{ran}");
    recorded(place, &format!("{} (enforce)", profile.name), true)?;
    let ran = run(place, &policy(place, ""), &command);
    ensure!(ran.out == "0\n143\nx\n", "the control: {ran}");
    profile.remove(place)?;
    place.nothing_left()
}

/// What OPERATIONS says that a profile which holds Safe-Run must allow, the last of it where the kernel asks for that.
fn safe_runs_own(user_namespaces: bool) -> String {
    let rules = documented("| AppArmor, by a profile that holds safe-run itself |");
    let rules = rules.split('`').find(|code| code.starts_with("file, ")).expect("rules");
    let userns = if user_namespaces { "\n userns," } else { "" };
    format!("{}{userns}", rules.replace(", ", ",\n "))
}

/// The paragraph of OPERATIONS that begins so, or the code in it.
fn documented(begin: &str) -> String {
    let document = include_str!("../../../OPERATIONS.md");
    let (_, rest) = document.split_once(begin).expect("OPERATIONS says so");
    rest.split("\n|").next().unwrap_or(rest).to_owned()
}

fn mediates_user_namespaces() -> bool {
    let known = fs::read_to_string("/sys/kernel/security/apparmor/features/namespaces/mask");
    known.is_ok_and(|known| known.contains("userns_create"))
}

/// Where AppArmor's profiles must allow them, and its parser knows the word.
fn with_user_namespaces() -> Test {
    on_the_rig()?;
    match mediates_user_namespaces() {
        true => Ok(()),
        false => support::skip("this kernel's AppArmor does not mediate user namespaces"),
    }
}

/// `safe-run WORDS` as an ordinary user, by a copy at a path that profiles can name.
fn of_a_user(place: &Place, words: &[&str]) -> Result<Ran, End> {
    let mut command = place.as_nobody()?;
    command.args(words);
    Ok(end(command, b"", LIMIT))
}

/// As OPERATIONS has it for hosts that keep user namespaces from programs without a profile.
fn a_profile_for_user_namespaces(place: &Place) -> Test {
    with_user_namespaces()?;
    let text = documented("**User namespaces on Ubuntu 24.04 and later.**");
    let text = text.split("```").nth(1).expect("a profile");
    let name = format!("safe-run-{}-own", place.mark());
    let path = place.root().join("safe-run");
    let text = text.replace(
        "profile safe-run /usr/local/bin/safe-run",
        &format!("profile {name} \"{}\"", path.display()),
    );
    ensure!(text.contains(&name) && text.contains("userns,"), "{text}");
    let own = Profile::of_text(place, name, &text)?;
    let policy = policy(place, "");
    let ran = of_a_user(place, &words(&policy, &["cat", "/proc/self/attr/apparmor/current"]))?;
    ran.ok()?;
    ensure!(ran.out == format!("{} (unconfined)\n", own.name), "{ran}");
    own.remove(place)?;
    place.nothing_left()
}

/// A profile that denies must name them as well; where it does not, it is named.
fn a_profile_that_keeps_user_namespaces(place: &Place) -> Test {
    with_user_namespaces()?;
    let path = place.root().join("safe-run");
    let head = format!("{} flags=(attach_disconnected)", path.display());
    let policy = policy(place, "");
    let run = words(&policy, &["cat", "/proc/self/attr/apparmor/current"]);
    let own = Profile::load(place, "keeps", &head, &safe_runs_own(false))?;
    let ran = of_a_user(place, &run)?;
    let said = format!("AppArmor holds safe-run by the profile {}", own.name);
    ran.ended(125)?;
    for words in ["SR-RUN-001 launch.preflight.namespaces", "no user namespace", &said] {
        ensure!(ran.err.contains(words), "{words:?} is not said: {ran}");
    }
    let doctor = of_a_user(place, &["doctor"])?;
    let said = format!(
        "AppArmor holds safe-run by the profile {}: what it denies fails a launch",
        own.name
    );
    ensure!(
        doctor.out.contains(&said) && doctor.out.contains("also userns"),
        "{doctor}"
    );
    own.remove(place)?;
    let own = Profile::load(place, "gives", &head, &safe_runs_own(true))?;
    let ran = of_a_user(place, &run)?;
    ran.ok()?;
    ensure!(ran.out == format!("{} (enforce)\n", own.name), "{ran}");
    own.remove(place)?;
    place.nothing_left()
}

/// One without rules takes nothing away.
fn a_profile_that_only_names_safe_run(place: &Place) -> Test {
    on_the_rig()?;
    let path = place.root().join("safe-run");
    let head = format!("{} flags=(unconfined)", path.display());
    let own = Profile::load(place, "names", &head, "")?;
    let profile = Profile::load(place, "of-policy", "", RULES)?;
    let doctor = of_a_user(place, &["doctor"])?;
    ensure!(
        doctor.status == 0
            && doctor
                .out
                .contains(&format!("safe-run itself is {} (unconfined)", own.name)),
        "{doctor}"
    );
    let shown = "/proc/self/attr/apparmor/current";
    for (clauses, label) in [
        (String::new(), format!("{} (unconfined)\n", own.name)),
        (
            format!("mac: {{apparmor: {}}}", profile.name),
            format!("{} (enforce)\n", profile.name),
        ),
    ] {
        let ran = of_a_user(place, &words(&policy(place, &clauses), &["cat", shown]))?;
        ran.ok()?;
        ensure!(ran.out == label, "{ran}");
    }
    profile.remove(place)?;
    own.remove(place)?;
    place.nothing_left()
}
