//! Calculator tools: five operations on two numbers. Whole numbers stay exact as long as they fit; a result
//! that is not a number is a failure with its reason. Knows no server and no protocol beyond its tools.

use async_trait::async_trait;
use protocol::provider::{
    Annotations, ProviderError, ProviderInfo, RequestContext, ToolDefinition, ToolOutput, ToolProvider,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Number, json};

/// The built-in server `calculator`.
pub struct Calculator;

#[async_trait]
impl ToolProvider for Calculator {
    fn info(&self) -> ProviderInfo {
        ProviderInfo {
            name: "calculator",
            title: "Calculator",
            version: env!("CARGO_PKG_VERSION"),
            description: "Adds, subtracts, multiplies, divides and raises to powers.",
        }
    }

    async fn tools(&self, _context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        Ok(OPERATIONS.iter().map(Operation::definition).collect())
    }

    async fn call(
        &self,
        _context: &RequestContext<'_>,
        tool: &str,
        arguments: &RawValue,
    ) -> Result<ToolOutput, ProviderError> {
        run(tool, arguments)
    }
}

fn run(tool: &str, arguments: &RawValue) -> Result<ToolOutput, ProviderError> {
    let operation =
        OPERATIONS.iter().find(|operation| operation.name == tool).ok_or(ProviderError::NotFound)?;
    let Operands { a, b } = serde_json::from_str(arguments.get())
        .map_err(|error| ProviderError::Failed(format!("a and b must be numbers: {error}")))?;
    let result = (operation.run)(&a, &b).map_err(|problem| ProviderError::Failed(problem.to_string()))?;
    Ok(ToolOutput { text: result.to_string(), structured: Some(json!({ "result": result })) })
}

#[derive(Deserialize)]
struct Operands {
    a: Number,
    b: Number,
}

struct Operation {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    run: fn(&Number, &Number) -> Result<Number, Problem>,
}

const OPERATIONS: [Operation; 5] = [
    Operation { name: "add", title: "Add", description: "a + b", run: add },
    Operation { name: "subtract", title: "Subtract", description: "a - b", run: subtract },
    Operation { name: "multiply", title: "Multiply", description: "a × b", run: multiply },
    Operation { name: "divide", title: "Divide", description: "a ÷ b; b must not be 0", run: divide },
    Operation { name: "power", title: "Power", description: "a raised to the power of b", run: power },
];

impl Operation {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: self.name.into(),
            title: self.title.into(),
            description: self.description.into(),
            input_schema: json!({
                "type": "object",
                "properties": { "a": { "type": "number" }, "b": { "type": "number" } },
                "required": ["a", "b"],
                "additionalProperties": false,
            }),
            output_schema: Some(json!({
                "type": "object",
                "properties": { "result": { "type": "number" } },
                "required": ["result"],
            })),
            annotations: Annotations {
                read_only_hint: true,
                destructive_hint: false,
                idempotent_hint: true,
                open_world_hint: false,
            },
        }
    }
}

/// Cause of a missing result, as the model reads it.
#[derive(Debug, PartialEq, thiserror::Error)]
enum Problem {
    #[error("division by zero: b is 0")]
    DivisionByZero,
    #[error("overflow: the result is too large for a 64-bit floating-point number")]
    Overflow,
    #[error("the result is not a real number: a is negative and b is not whole")]
    NotReal,
}

fn add(a: &Number, b: &Number) -> Result<Number, Problem> {
    exact_or(a, b, i128::checked_add, |a, b| a + b)
}

fn subtract(a: &Number, b: &Number) -> Result<Number, Problem> {
    exact_or(a, b, i128::checked_sub, |a, b| a - b)
}

fn multiply(a: &Number, b: &Number) -> Result<Number, Problem> {
    exact_or(a, b, i128::checked_mul, |a, b| a * b)
}

fn divide(a: &Number, b: &Number) -> Result<Number, Problem> {
    if float(b) == 0.0 {
        return Err(Problem::DivisionByZero);
    }
    let exactly = |a: i128, b: i128| if a % b == 0 { a.checked_div(b) } else { None };
    exact_or(a, b, exactly, |a, b| a / b)
}

fn power(a: &Number, b: &Number) -> Result<Number, Problem> {
    let (base, exponent) = (float(a), float(b));
    if base == 0.0 && exponent < 0.0 {
        return Err(Problem::DivisionByZero);
    }
    if base < 0.0 && exponent.fract() != 0.0 {
        return Err(Problem::NotReal);
    }
    let exactly = |a: i128, b: i128| a.checked_pow(u32::try_from(b).ok()?);
    exact_or(a, b, exactly, f64::powf)
}

/// Calculates in whole numbers when both are and the result fits in 64 bits, else in floating point.
fn exact_or(
    a: &Number,
    b: &Number,
    exactly: impl Fn(i128, i128) -> Option<i128>,
    roughly: impl Fn(f64, f64) -> f64,
) -> Result<Number, Problem> {
    if let (Some(a), Some(b)) = (a.as_i128(), b.as_i128())
        && let Some(result) = exactly(a, b)
        && let Some(result) = whole(result)
    {
        return Ok(result);
    }
    // Only a value that is not finite is refused here.
    Number::from_f64(roughly(float(a), float(b))).ok_or(Problem::Overflow)
}

fn whole(result: i128) -> Option<Number> {
    match (i64::try_from(result), u64::try_from(result)) {
        (Ok(result), _) => Some(result.into()),
        (_, Ok(result)) => Some(result.into()),
        (Err(_), Err(_)) => None,
    }
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(tool: &str, a: &str, b: &str) -> Result<String, String> {
        let arguments: Box<RawValue> =
            RawValue::from_string(format!(r#"{{"a":{a},"b":{b}}}"#)).expect("JSON");
        match run(tool, &arguments) {
            Ok(output) => {
                assert_eq!(output.structured.unwrap()["result"].to_string(), output.text);
                Ok(output.text)
            }
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn whole_numbers_stay_exact() {
        for (tool, a, b, expected) in [
            ("add", "2", "3", "5"),
            ("add", "0.1", "0.2", "0.30000000000000004"),
            ("add", "9223372036854775807", "1", "9223372036854775808"),
            ("add", "2.0", "3", "5.0"),
            ("subtract", "2", "3", "-1"),
            ("multiply", "3037000500", "3037000500", "9223372037000250000"),
            ("multiply", "1e3", "2", "2000.0"),
            ("divide", "6", "3", "2"),
            ("divide", "1", "4", "0.25"),
            ("divide", "-9223372036854775808", "-1", "9223372036854775808"),
            ("power", "2", "10", "1024"),
            ("power", "2", "-1", "0.5"),
            ("power", "-2", "3", "-8"),
            ("power", "2", "0.5", "1.4142135623730951"),
            ("power", "0", "0", "1"),
            ("power", "10", "30", "1e+30"),
        ] {
            assert_eq!(call(tool, a, b).as_deref(), Ok(expected), "{tool} {a} {b}");
        }
    }

    #[test]
    fn what_has_no_result_says_why() {
        for (tool, a, b, part) in [
            ("divide", "1", "0", "division by zero"),
            ("divide", "1", "-0.0", "division by zero"),
            ("power", "0", "-1", "division by zero"),
            ("power", "-8", "0.5", "not a real number"),
            ("power", "10", "400", "overflow"),
            ("multiply", "1e308", "10", "overflow"),
            ("add", "\"1\"", "1", "must be numbers"),
            ("modulo", "1", "1", "not found"),
        ] {
            let error = call(tool, a, b).unwrap_err();
            assert!(error.contains(part), "{tool} {a} {b}: {error}");
        }
    }
}
