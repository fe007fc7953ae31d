//! Compiles the condition of a routing rule, within bounds: size, depth, names and work are known before any request meets it.
//!
//! The CEL parser recurses for each bracket and would take the process down on a deep text, and a chain of macros such as
//! `[..].map(x, x + x).map(x, x + x)` doubles with each link. So a scanner bounds the depth before the parser sees the text, the parser
//! runs in a thread with a stack of its own, and the tree is checked afterwards: known names and functions only, no macro inside of
//! or upon another, a bounded number of steps.

use crate::decision::nearest::nearest;
use crate::decision::route::{
    BUDGET_FIELDS, COMPLEXITY, Condition, LLM_TIER, Mentions, NOW_FIELDS, PLAN_FIELDS, REQUEST_FIELDS, VARIABLES, WEAK_SUFFICES,
    WORKSPACE_FIELDS,
};
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::{ParseErrors, Program};

/// The longest condition.
pub const CONDITION_BYTES_MAX: usize = 1_024;
/// How deep brackets, choices and negations may nest, and the tree that they make.
pub const CONDITION_DEPTH_MAX: usize = 32;
/// How many steps one evaluation may take.
pub const CONDITION_STEPS_MAX: usize = 4_096;
/// How many entries a variable may have that a macro runs over: what the API admits for attributes, tags and budgets.
const VARIABLE_ENTRIES_MAX: usize = 32;
/// The longest pattern of `matches`. It is compiled at each evaluation, so what takes long to compile is refused in it: repetitions by
/// number, and classes of Unicode, of which sixteen took 6 ms.
const PATTERN_BYTES_MAX: usize = 64;
/// What `matches` counts for.
const MATCH_STEPS: usize = 256;
/// The parser takes up to 130 KB of stack for each bracket where it is compiled without optimisation.
const PARSER_STACK_BYTES: usize = 64 << 20;

/// Functions that conditions may call, beside operators and the macros has, all, exists, exists_one, map and filter.
const FUNCTIONS: [&str; 11] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "@not_strictly_false",
];

/// Why a condition is refused, and at which character where that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub character: Option<usize>,
    pub detail: String,
}

impl Refusal {
    fn at(character: usize, detail: impl Into<String>) -> Self {
        Self {
            character: Some(character),
            detail: detail.into(),
        }
    }

    fn whole(detail: impl Into<String>) -> Self {
        Self {
            character: None,
            detail: detail.into(),
        }
    }
}

/// Compiles a condition, or says why not.
pub fn compile(text: &str) -> Result<Condition, Refusal> {
    if text.len() > CONDITION_BYTES_MAX {
        let length = text.len();
        return Err(Refusal::whole(format!(
            "a condition has at most {CONDITION_BYTES_MAX} bytes, this one has {length}"
        )));
    }
    scan(text)?;
    let program = guarded(text, Program::compile)?;
    let mut walk = Walk {
        program: &program,
        scopes: Vec::new(),
        steps: 0,
        mentions: Mentions::default(),
    };
    walk.yields_truth(program.expression())?;
    walk.visit(program.expression(), 1, 1)?;
    let mentions = walk.mentions;
    Ok(Condition::new(program, mentions))
}

/// Bounds the depth of a text that nobody has parsed yet. May count more than the parser would, never less.
fn scan(text: &str) -> Result<(), Refusal> {
    let characters: Vec<char> = text.chars().collect();
    // Each open bracket with the number of choices (`?`) since its last comma: a choice nests like a bracket.
    let mut open: Vec<(char, usize, usize)> = vec![(' ', 0, 0)];
    let mut signs = 0;
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        let mut next = at + 1;
        match c {
            '"' | '\'' => next = end_of_text(&characters, at)?,
            '/' if characters.get(at + 1) == Some(&'/') => next = end_of_line(&characters, at),
            '(' | '[' | '{' => open.push((c, at, 0)),
            ')' | ']' | '}' => close(&mut open, c, at)?,
            ',' => level(&mut open).2 = 0,
            '?' => level(&mut open).2 += 1,
            _ => {}
        }
        signs = match c {
            '!' | '-' => signs + 1,
            c if c.is_whitespace() => signs,
            _ => 0,
        };
        let depth = signs + open.iter().map(|(_, _, choices)| 1 + choices).sum::<usize>() - 1;
        if depth > CONDITION_DEPTH_MAX {
            return Err(Refusal::at(at, format!("a condition nests at most {CONDITION_DEPTH_MAX} deep")));
        }
        at = next;
    }
    match open.last() {
        Some((bracket, at, _)) if open.len() > 1 => Err(Refusal::at(*at, format!("this `{bracket}` is never closed"))),
        _ => Ok(()),
    }
}

fn level(open: &mut [(char, usize, usize)]) -> &mut (char, usize, usize) {
    open.last_mut().expect("the outermost level is never closed")
}

fn close(open: &mut Vec<(char, usize, usize)>, bracket: char, at: usize) -> Result<(), Refusal> {
    let opened = match bracket {
        ')' => '(',
        ']' => '[',
        _ => '{',
    };
    match open.last() {
        Some((last, _, _)) if *last == opened => {
            open.pop();
            Ok(())
        }
        _ => Err(Refusal::at(at, format!("this `{bracket}` closes nothing"))),
    }
}

/// Where the text literal that begins at `start` has ended.
fn end_of_text(characters: &[char], start: usize) -> Result<usize, Refusal> {
    let quote = characters[start];
    let is = |at: usize| characters.get(at) == Some(&quote);
    let length = if is(start + 1) && is(start + 2) { 3 } else { 1 };
    let prefix = &characters[start.saturating_sub(2)..start];
    let raw = prefix
        .iter()
        .rev()
        .take_while(|c| c.is_alphanumeric())
        .any(|c| matches!(c, 'r' | 'R'));
    let mut at = start + length;
    while at < characters.len() {
        if characters[at] == '\\' && !raw {
            at += 2;
        } else if (0..length).all(|n| is(at + n)) {
            return Ok(at + length);
        } else {
            at += 1;
        }
    }
    Err(Refusal::at(start, "this text is never closed"))
}

fn end_of_line(characters: &[char], start: usize) -> usize {
    let rest = characters[start..].iter().position(|c| *c == '\n');
    rest.map_or(characters.len(), |line| start + line)
}

/// Parses in a thread of its own: its stack suffices for [`CONDITION_DEPTH_MAX`], and a panic of the parser ends there.
fn guarded(text: &str, parser: fn(&str) -> Result<Program, ParseErrors>) -> Result<Program, Refusal> {
    let owned = text.to_owned();
    let thread = std::thread::Builder::new()
        .name("condition".to_owned())
        .stack_size(PARSER_STACK_BYTES)
        .spawn(move || parser(&owned));
    let thread = thread.map_err(|cause| Refusal::whole(format!("no thread to parse the condition in: {cause}")))?;
    match thread.join() {
        Ok(Ok(program)) => Ok(program),
        Ok(Err(errors)) => Err(first_error(text, &errors)),
        Err(_) => Err(Refusal::whole("the condition cannot be parsed")),
    }
}

fn first_error(text: &str, errors: &ParseErrors) -> Refusal {
    let Some(error) = errors.errors.iter().min_by_key(|error| error.pos) else {
        return Refusal::whole("the condition cannot be parsed");
    };
    let (line, column) = (usize::try_from(error.pos.0).unwrap_or(0), usize::try_from(error.pos.1).unwrap_or(0));
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(|line| line.chars().count())
        .sum();
    let message = error.msg.split(" expecting {").next().unwrap_or_default();
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    Refusal::at(before + column.saturating_sub(1), format!("not a CEL expression: {message}"))
}

/// One walk over the tree of a condition.
struct Walk<'a> {
    program: &'a Program,
    /// The variables of the macro around, if there is one.
    scopes: Vec<String>,
    steps: usize,
    mentions: Mentions,
}

impl Walk<'_> {
    fn refuse<T>(&self, expr: &IdedExpr, detail: impl Into<String>) -> Result<T, Refusal> {
        let place = self.program.source_info().offset_for(expr.id);
        let character = place.and_then(|(start, _)| usize::try_from(start).ok());
        Err(Refusal {
            character,
            detail: detail.into(),
        })
    }

    /// What can never be true or false is refused at once, not at each request.
    fn yields_truth(&self, expr: &IdedExpr) -> Result<(), Refusal> {
        let truth = match &expr.expr {
            Expr::Literal(LiteralValue::Boolean(_)) | Expr::Ident(_) | Expr::Select(_) | Expr::Comprehension(_) => true,
            Expr::Call(call) => {
                !["_+_", "_-_", "_*_", "_/_", "_%_", "-_", "size", "int", "uint", "double", "string"].contains(&call.func_name.as_str())
            }
            _ => false,
        };
        if truth {
            return Ok(());
        }
        self.refuse(expr, "a condition must be true or false")
    }

    /// `times`: how often this part is evaluated.
    fn visit(&mut self, expr: &IdedExpr, depth: usize, times: usize) -> Result<(), Refusal> {
        if depth > CONDITION_DEPTH_MAX {
            return self.refuse(expr, format!("a condition nests at most {CONDITION_DEPTH_MAX} deep"));
        }
        self.steps += times;
        if self.steps > CONDITION_STEPS_MAX {
            return self.refuse(
                expr,
                format!("a condition takes at most {CONDITION_STEPS_MAX} steps; this one takes more"),
            );
        }
        let inside = depth + 1;
        match &expr.expr {
            Expr::Unspecified => self.refuse(expr, "this part of the condition is missing"),
            Expr::Literal(_) => Ok(()),
            Expr::Struct(_) => self.refuse(expr, "a condition makes no messages"),
            Expr::Ident(name) => self.name(expr, name),
            Expr::Select(select) => {
                self.field(expr, &select.operand, &select.field)?;
                let before = self.mentions;
                self.visit(&select.operand, inside, times)?;
                if matches!(&select.operand.expr, Expr::Ident(name) if name == "request") {
                    // Which of its fields is known here; whoever takes `request` whole may look at any.
                    self.mentions = before;
                }
                Ok(())
            }
            Expr::Call(call) => {
                self.function(expr, times)?;
                let parts = call.target.as_deref().into_iter().chain(&call.args);
                parts.into_iter().try_for_each(|part| self.visit(part, inside, times))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|part| self.visit(part, inside, times)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::StructField(field) => self.visit(&field.value, inside, times),
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, inside, times)?;
                    self.visit(&entry.value, inside, times)
                }
            }),
            Expr::Comprehension(_) => self.comprehension(expr, depth, times),
        }
    }

    fn name(&mut self, expr: &IdedExpr, name: &str) -> Result<(), Refusal> {
        self.mentions.budgets |= name == "budgets";
        self.mentions.difficulty |= name == "request";
        self.mentions.llm_tier |= name == "request";
        if VARIABLES.contains(&name) || self.scopes.iter().any(|own| own == name) {
            return Ok(());
        }
        let hint = nearest(name, VARIABLES)
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        self.refuse(expr, format!("unknown name `{name}`{hint}"))
    }

    /// Fields of the variables with fixed fields are checked here, so that a misspelt one is not a rule that never matches.
    fn field(&mut self, expr: &IdedExpr, operand: &IdedExpr, field: &str) -> Result<(), Refusal> {
        if matches!(&operand.expr, Expr::Ident(name) if name == "request") {
            self.mentions.difficulty |= [WEAK_SUFFICES, COMPLEXITY].contains(&field);
            self.mentions.llm_tier |= field == LLM_TIER;
        }
        let (what, known): (&str, &[&str]) = match &operand.expr {
            Expr::Ident(name) if self.scopes.contains(name) => return Ok(()),
            Expr::Ident(name) => match name.as_str() {
                "request" => ("request", &REQUEST_FIELDS),
                "workspace" => ("workspace", &WORKSPACE_FIELDS),
                "plan" => ("plan", &PLAN_FIELDS),
                "now" => ("now", &NOW_FIELDS),
                _ => return Ok(()),
            },
            Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == "budgets") => ("a budget", &BUDGET_FIELDS),
            _ => return Ok(()),
        };
        if known.contains(&field) {
            return Ok(());
        }
        let hint = match nearest(field, known.iter().copied()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => format!("; it has {}", known.join(", ")),
        };
        self.refuse(expr, format!("{what} has no field `{field}`{hint}"))
    }

    fn function(&mut self, expr: &IdedExpr, times: usize) -> Result<(), Refusal> {
        let Expr::Call(call) = &expr.expr else {
            return Ok(());
        };
        let name = call.func_name.as_str();
        let operator = name.contains('_') && !name.starts_with(|c: char| c.is_alphanumeric()) && !name.contains('?');
        if name == "matches" {
            self.steps += MATCH_STEPS * times;
            return match call.args.last().map(|pattern| &pattern.expr) {
                Some(Expr::Literal(LiteralValue::String(pattern))) => self.pattern(expr, pattern.inner()),
                _ => self.refuse(expr, "the pattern of `matches` must be written out"),
            };
        }
        if operator || name == "_?_:_" || name == "@in" || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        let hint = nearest(name, FUNCTIONS)
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        self.refuse(expr, format!("conditions have no function `{name}`{hint}"))
    }

    fn pattern(&self, expr: &IdedExpr, pattern: &str) -> Result<(), Refusal> {
        let is_class = |pair: &[u8]| pair[0] == b'\\' && pair[1].is_ascii_alphabetic();
        if pattern.len() > PATTERN_BYTES_MAX || pattern.contains('{') || pattern.as_bytes().windows(2).any(is_class) {
            let detail = format!(
                "a pattern of `matches` has at most {PATTERN_BYTES_MAX} bytes, no `{{n}}` and no classes such as `\\w`; write [a-z0-9]"
            );
            return self.refuse(expr, detail);
        }
        let text = serde_json::Value::from(pattern).to_string();
        let tried = Program::compile(&format!("\"\".matches({text})")).map(|program| program.execute(&cel::Context::default()));
        match tried {
            Ok(Ok(_)) => Ok(()),
            _ => self.refuse(expr, format!("{pattern:?} is not a regular expression")),
        }
    }

    fn comprehension(&mut self, expr: &IdedExpr, depth: usize, times: usize) -> Result<(), Refusal> {
        let Expr::Comprehension(fold) = &expr.expr else {
            return Ok(());
        };
        if !self.scopes.is_empty() {
            return self.refuse(expr, "a macro inside of a macro is refused: its work would multiply");
        }
        let rounds = match &fold.iter_range.expr {
            Expr::List(list) => list.elements.len(),
            Expr::Ident(_) | Expr::Select(_) => VARIABLE_ENTRIES_MAX,
            _ => return self.refuse(expr, "a macro runs over a variable or a list that is written out"),
        };
        let inside = depth + 1;
        self.visit(&fold.iter_range, inside, times)?;
        self.visit(&fold.accu_init, inside, times)?;
        self.scopes.extend([fold.iter_var.clone(), fold.accu_var.clone()]);
        self.scopes.extend(fold.iter_var2.clone());
        for part in [&fold.loop_cond, &fold.loop_step, &fold.result] {
            self.visit(part, inside, times * rounds.max(1))?;
        }
        self.scopes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod bombs;
#[cfg(test)]
mod tests;
