//! The role `echo [TOOLS]`: the echo server on its standard streams, in one blocking loop, so that it costs as
//! little as a server can.

use std::io::{BufRead, BufReader, Write};

use crate::mcp;

/// What is kept of a buffer that a large message made larger.
const KEPT: usize = 1 << 20;

/// Serves until the end of input.
pub fn run() -> std::io::Result<()> {
    let count = std::env::args().nth(2).and_then(|count| count.parse().ok());
    let tools = count.map_or_else(|| mcp::TOOLS.to_owned(), mcp::tools);
    let mut input = BufReader::with_capacity(64 << 10, std::io::stdin());
    let mut output = std::io::stdout();
    let (mut line, mut answers) = (Vec::new(), Vec::new());
    while input.read_until(b'\n', &mut line)? > 0 {
        if !line.trim_ascii().is_empty() {
            let before = answers.len();
            mcp::answer(&line, &tools, &mut answers);
            if answers.len() > before {
                answers.push(b'\n');
            }
        }
        line.clear();
        // What has arrived together is answered together.
        if input.buffer().is_empty() && !answers.is_empty() {
            output.write_all(&answers)?;
            output.flush()?;
            answers.clear();
            answers.shrink_to(KEPT);
        }
    }
    Ok(())
}
