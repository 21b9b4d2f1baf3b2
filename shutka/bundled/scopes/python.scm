; The names that functions of Python bind. nbs/73_dataset/41_scopes.ipynb says what the captures mean.
[(function_definition) (lambda)] @function
(function_definition body: (_) @scope)
(lambda body: (_) @scope)
(class_definition body: (_) @class)

(attribute attribute: (identifier) @other)
(keyword_argument name: (identifier) @label)

(function_definition name: (identifier) @fixed)
(class_definition name: (identifier) @fixed)
[(global_statement) (nonlocal_statement) (import_statement) (import_from_statement) (future_import_statement)
 (case_pattern) (type_parameter) (type_alias_statement)] @fixed
(interpolation "=") @fixed
; tests are given their parameters by name, and so is much that is decorated
(decorated_definition definition: (function_definition parameters: (_) @fixed))
((function_definition name: (identifier) @_name parameters: (_) @fixed) (#match? @_name "^test"))
((call function: (identifier) @_name) @never
 (#any-of? @_name "locals" "vars" "eval" "exec" "dir" "globals" "compile"))

(function_definition parameters: (parameters (_) @param) body: (_) @within)
(lambda parameters: (lambda_parameters (_) @param) body: (_) @within)
(assignment left: (_) @name)
(augmented_assignment left: (_) @name)
(named_expression name: (_) @name)
(for_statement left: (_) @name)
(as_pattern alias: (_) @name)
; the first iterable is evaluated outside of the comprehension
(list_comprehension body: (_) . (for_in_clause left: (_) @name right: (_) @without)) @within
(set_comprehension body: (_) . (for_in_clause left: (_) @name right: (_) @without)) @within
(dictionary_comprehension body: (_) . (for_in_clause left: (_) @name right: (_) @without)) @within
(generator_expression body: (_) . (for_in_clause left: (_) @name right: (_) @without)) @within
(list_comprehension body: (_) . (for_in_clause right: (_) @without) (for_in_clause left: (_) @name)) @within
(set_comprehension body: (_) . (for_in_clause right: (_) @without) (for_in_clause left: (_) @name)) @within
(dictionary_comprehension body: (_) . (for_in_clause right: (_) @without) (for_in_clause left: (_) @name)) @within
(generator_expression body: (_) . (for_in_clause right: (_) @without) (for_in_clause left: (_) @name)) @within
