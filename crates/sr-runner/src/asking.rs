//! Questions to the person at the terminal, where the policy says `onDenied: ask`: may the program make this call? By the call
//! and its arguments alone: nothing that a pointer leads to is read, so that a yes cannot be turned into another one.

use crate::told::Denied;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::json;
use sr_common::{Code, Fault};
use sr_evidence::approval::By;
use sr_kernel::seccomp::{self, Notification};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

const EPERM: u16 = 1;
/// DECSTR and SGR 0 (ECMA-48): the program may have made what is written next invisible.
const PLAIN: &str = "\u{1b}[!p\u{1b}[0m";

/// A call that waits for an answer.
pub(crate) struct Question {
    pub denied: Denied,
    pub told: Notification,
    /// On which it was told, and is answered.
    pub listener: OwnedFd,
}

/// The person, and what they were asked.
pub(crate) struct Asking {
    terminal: OwnedFd,
    by: By,
    waiting: VecDeque<Question>,
    /// What was answered once and for all.
    settled: BTreeMap<String, bool>,
    /// Operations that were allowed.
    pub allowed: Vec<String>,
}

/// What came of a question.
pub(crate) enum Answered {
    /// It was allowed: what is recorded of it.
    Allowed(serde_json::Value),
    Denied(Denied),
}

impl Asking {
    /// The terminal of this process; without one nobody can be asked.
    pub fn open(by: By) -> Result<Asking, Fault> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = openat(CWD, "/dev/tty", flags, Mode::empty()).map_err(|e| {
            let found = format!("`ask`, and there is no terminal to ask on: /dev/tty: {e}");
            Fault::new(
                Code::Run001,
                "syscalls.onDenied",
                found,
                "start it on a terminal, or write onDenied: errno",
            )
        })?;
        Ok(Asking {
            terminal,
            by,
            waiting: VecDeque::new(),
            settled: BTreeMap::new(),
            allowed: Vec::new(),
        })
    }

    /// Whether an answer is waited for.
    pub fn asks(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub fn interest(&self) -> Option<PollFd<'_>> {
        self.asks().then(|| PollFd::new(&self.terminal, PollFlags::IN))
    }

    /// Puts a question, unless it was settled before.
    pub fn ask(&mut self, question: Question) -> Option<Answered> {
        if let Some(allowed) = self.settled.get(&question.denied.denial.operation).copied() {
            return self.settle(question, if allowed { "always" } else { "no" });
        }
        let first = !self.asks();
        self.waiting.push_back(question);
        if first {
            self.put();
        }
        None
    }

    fn put(&self) {
        let Some(question) = self.waiting.front() else { return };
        let denial = &question.denied.denial;
        // What the program calls itself must not steer the terminal.
        let program = question.denied.program.as_deref().unwrap_or("a process");
        let program: String = program
            .chars()
            .map(|c| if c.is_ascii_graphic() { c } else { '?' })
            .collect();
        let text = format!(
            "{PLAIN}\r\nsafe-run: {program} wants {}: {}. Allow it? [y]es, [a]lways in this run, [N]o: ",
            denial.operation, denial.reason
        );
        // What was typed before the question is no answer to it.
        let _ = rustix::termios::tcflush(&self.terminal, rustix::termios::QueueSelector::IFlush);
        // A terminal that is gone is read as a no.
        let _ = rustix::io::write(&self.terminal, text.as_bytes());
    }

    /// Takes the answer to the first question, and puts the next.
    pub fn hear(&mut self) -> Option<Answered> {
        let mut said = [0; 256];
        let length = rustix::io::read(&self.terminal, &mut said).unwrap_or(0);
        let word = said.iter().take(length).find(|byte| !byte.is_ascii_whitespace());
        let question = self.waiting.pop_front()?;
        let answer = match word {
            Some(b'y' | b'Y') => "yes",
            Some(b'a' | b'A') => "always",
            _ => "no",
        };
        if answer != "yes" {
            let operation = question.denied.denial.operation.clone();
            self.settled.insert(operation, answer == "always");
        }
        let _ = rustix::io::write(&self.terminal, format!("\r\nsafe-run: {answer}\r\n").as_bytes());
        let answered = self.settle(question, answer);
        self.put();
        answered
    }

    fn settle(&mut self, question: Question, answer: &str) -> Option<Answered> {
        let Question { denied, told, listener } = question;
        let listener = listener.as_fd();
        if answer == "no" {
            seccomp::deny(listener, &told, EPERM);
            return Some(Answered::Denied(denied));
        }
        if !seccomp::still_waits(listener, &told) {
            return None;
        }
        seccomp::let_go_on(listener, &told, EPERM);
        let denial = denied.denial;
        let record = json!({
            "operation": denial.operation, "clause": denial.clause, "program": denied.program, "answer": answer,
            "by": self.by,
        });
        if self.allowed.contains(&denial.operation) {
            return None;
        }
        self.allowed.push(denial.operation);
        Some(Answered::Allowed(record))
    }
}
