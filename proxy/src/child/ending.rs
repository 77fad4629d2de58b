//! Exit of a child process, as the supervisor reports it over the control socket.

use std::fmt;

/// Means that ended a child and all processes below it, in the order in which they are tried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Needed {
    /// No means, since the child did not run.
    #[default]
    Nothing,
    EndOfInput,
    Terminate,
    Kill,
}

impl Needed {
    /// Returns `end_of_input`, `sigterm` or `sigkill`.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Needed::Nothing => None,
            Needed::EndOfInput => Some("end_of_input"),
            Needed::Terminate => Some("sigterm"),
            Needed::Kill => Some("sigkill"),
        }
    }

    /// Formats a line of the control socket, `needed sigterm`; none for means outside the supervisor.
    pub fn to_line(self) -> Option<String> {
        (self >= Needed::Terminate).then(|| format!("needed {}\n", self.as_str().unwrap_or_default()))
    }

    pub fn parse(line: &str) -> Option<Needed> {
        [Needed::Terminate, Needed::Kill]
            .into_iter()
            .find(|needed| needed.to_line().as_deref().map(str::trim_end) == Some(line))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Exited(i32),
    Signalled(i32),
    /// Exit unknown, since the supervisor is gone without a report.
    Lost,
}

impl Ending {
    /// Parses a line of the control socket, `exit 3` or `signal 9`.
    pub fn parse(line: &str) -> Option<Ending> {
        match line.split_once(' ')? {
            ("exit", code) => code.parse().ok().map(Ending::Exited),
            ("signal", number) => number.parse().ok().map(Ending::Signalled),
            _ => None,
        }
    }

    pub fn to_line(self) -> Option<String> {
        match self {
            Ending::Exited(code) => Some(format!("exit {code}\n")),
            Ending::Signalled(number) => Some(format!("signal {number}\n")),
            Ending::Lost => None,
        }
    }

    /// Returns the exit status for the supervisor's own exit, as a shell has it.
    pub fn code(self) -> u8 {
        match self {
            Ending::Exited(code) => code as u8,
            Ending::Signalled(number) => 128 + number as u8,
            Ending::Lost => 70,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(code) => write!(f, "exited with status {code}"),
            Ending::Signalled(number) => match signal_name(*number) {
                Some(name) => write!(f, "was ended by signal {number} ({name})"),
                None => write!(f, "was ended by signal {number}"),
            },
            Ending::Lost => f.write_str("was lost with its supervisor"),
        }
    }
}

fn signal_name(number: i32) -> Option<&'static str> {
    signal_hook::low_level::signal_name(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back() {
        for ending in [Ending::Exited(3), Ending::Signalled(9)] {
            assert_eq!(Ending::parse(ending.to_line().unwrap().trim_end()), Some(ending));
        }
        for needed in [Needed::Terminate, Needed::Kill] {
            assert_eq!(Needed::parse(needed.to_line().unwrap().trim_end()), Some(needed));
        }
        assert_eq!(Ending::Signalled(9).to_string(), "was ended by signal 9 (SIGKILL)");
    }
}
