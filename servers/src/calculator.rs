//! Calculator tools: five operations on two numbers. Whole numbers stay exact as long as they fit; a result
//! that is not a number is a failure with its reason. Knows no server and no protocol beyond its tools.

use std::sync::LazyLock;

use async_trait::async_trait;
use framework::{Answer, Effect, Output, Tools};
use protocol::provider::{
    ProviderError, ProviderInfo, RequestContext, ToolDefinition, ToolOutput, ToolProvider,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use serde_json::value::RawValue;

pub const INFO: ProviderInfo = ProviderInfo {
    name: "calculator",
    title: "Calculator",
    version: env!("CARGO_PKG_VERSION"),
    description: "Adds, subtracts, multiplies, divides and raises to powers.",
};

/// The built-in server `calculator`.
pub struct Calculator;

static TOOLS: LazyLock<Tools<Calculator>> = LazyLock::new(|| {
    type Operation = fn(&Number, &Number) -> Result<Number, Problem>;
    let operations: [(_, _, _, Operation); 5] = [
        ("add", "Add", "a + b", add),
        ("subtract", "Subtract", "a - b", subtract),
        ("multiply", "Multiply", "a × b", multiply),
        ("divide", "Divide", "a ÷ b; b must not be 0", divide),
        ("power", "Power", "a raised to the power of b", power),
    ];
    operations.into_iter().fold(Tools::new(), |tools, (name, title, description, operation)| {
        tools.add(name, title, description, Effect::Read, move |_, _, Operands { a, b }| {
            Box::pin(std::future::ready(answer(operation(&a, &b))))
        })
    })
});

#[async_trait]
impl ToolProvider for Calculator {
    fn info(&self) -> ProviderInfo {
        INFO
    }

    async fn tools(&self, _context: &RequestContext<'_>) -> Result<Vec<ToolDefinition>, ProviderError> {
        Ok(TOOLS.definitions())
    }

    async fn call(
        &self,
        context: &RequestContext<'_>,
        tool: &str,
        arguments: &RawValue,
    ) -> Result<ToolOutput, ProviderError> {
        TOOLS.call(self, context, tool, arguments).await
    }
}

#[derive(Deserialize, JsonSchema)]
struct Operands {
    a: Number,
    b: Number,
}

#[derive(Serialize, JsonSchema)]
struct Calculated {
    result: Number,
}

fn answer(calculated: Result<Number, Problem>) -> Output<Calculated> {
    let result = calculated.map_err(|problem| ProviderError::Failed(problem.to_string()))?;
    let text = result.to_string();
    Ok(Answer::with_text(Calculated { result }, text))
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
    use std::sync::Arc;

    use super::*;

    async fn call(tool: &str, a: &str, b: &str) -> Result<String, String> {
        let arguments = serde_json::from_str(&format!(r#"{{"a":{a},"b":{b}}}"#)).expect("JSON");
        let calculator: Arc<dyn ToolProvider> = Arc::new(Calculator);
        let result = framework::testing::call(&calculator, tool, arguments).await?;
        let text = result["content"][0]["text"].as_str().expect("a text").to_owned();
        if result["isError"] == true {
            return Err(text);
        }
        assert_eq!(result["structuredContent"]["result"].to_string(), text);
        Ok(text)
    }

    #[tokio::test]
    async fn whole_numbers_stay_exact() {
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
            assert_eq!(call(tool, a, b).await.as_deref(), Ok(expected), "{tool} {a} {b}");
        }
    }

    #[tokio::test]
    async fn what_has_no_result_says_why() {
        for (tool, a, b, part) in [
            ("divide", "1", "0", "division by zero"),
            ("divide", "1", "-0.0", "division by zero"),
            ("power", "0", "-1", "division by zero"),
            ("power", "-8", "0.5", "not a real number"),
            ("power", "10", "400", "overflow"),
            ("multiply", "1e308", "10", "overflow"),
            ("add", "\"1\"", "1", "`a` must be number, not string"),
            ("modulo", "1", "1", "unknown tool `modulo`"),
        ] {
            let error = call(tool, a, b).await.unwrap_err();
            assert!(error.contains(part), "{tool} {a} {b}: {error}");
        }
    }
}
