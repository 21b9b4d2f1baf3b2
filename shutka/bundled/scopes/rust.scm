; The names that functions of Rust bind. nbs/73_dataset/41_scopes.ipynb says what the captures mean.
[(function_item) (closure_expression)] @function
[(block) (match_arm)] @scope

(function_item name: (_) @fixed)
(const_item name: (_) @fixed)
(static_item name: (_) @fixed)
(const_parameter) @fixed
[(use_declaration) (mod_item) (extern_crate_declaration) (attribute_item) (inner_attribute_item) (macro_definition)
 (shorthand_field_initializer) (shorthand_field_identifier) (range_pattern)] @fixed
(tuple_struct_pattern type: (_) @fixed)
(lifetime (identifier) @other)
(label (identifier) @other)
(scoped_identifier path: (identifier) @other)
(scoped_identifier name: (identifier) @other)
(scoped_type_identifier path: (identifier) @other)
(macro_invocation macro: (identifier) @other)
; what a macro does with a name, only its author knows, but for those below
((macro_invocation macro: (_) @_name (token_tree) @fixed)
 (#not-match? @_name
  "^((debug_)?assert(_eq|_ne)?|e?print(ln)?|format|panic|todo|unreachable|vec|write(ln)?)$"))
(token_tree . "{") @fixed
(token_tree "!" . (token_tree) @fixed)
(token_tree (identifier) @fixed . ["=" ":"])
(token_tree (identifier) @fixed . (token_tree . "{"))
(token_tree "." . (identifier) @other)
(token_tree "::" . (identifier) @other)
(token_tree (identifier) @other . ["::" "!"])

(function_item parameters: (parameters (parameter pattern: (_) @param)) body: (_) @within)
(closure_expression parameters: (closure_parameters (_) @param) body: (_) @within)
(let_declaration pattern: (_) @name) @from
(for_expression pattern: (_) @name body: (_) @within)
(match_arm pattern: (_) @name) @within
(if_expression condition: (let_condition pattern: (_) @name) consequence: (_) @within)
(if_expression condition: (let_chain (let_condition pattern: (_) @name)) consequence: (_) @within)
(while_expression condition: (let_condition pattern: (_) @name) body: (_) @within)
