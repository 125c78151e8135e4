"""Space files that several tests read."""

MY_JOB = """\
name: my_job
framework: command
command: ["python3", "train.py", "--batch", "{batch}", "--compile", "{compile}"]
metric: {pattern: 'tokens/s: (?P<tokens_per_s>[0-9.]+)'}   # one match a step; or {format: megatron|deepspeed|hf|torchtitan|...}
parameters:
  batch: {values: [1, 2, 4, 8]}
  compile: {values: [false, true]}
constraints: ["not (compile and batch == 1)"]
baseline: {batch: 1, compile: false}
trial: {min_steps: 3, time_limit_s: 60}
budget: {trials: 20}
"""  # noqa: E501

LAYOUT = """\
name: layout
model: llama-3.1-70b
cluster: {nodes: 2, gpus_per_node: 8, gpu: h200_141gb}
framework: megatron
contract: {global_batch_size: 128, seq_length: 8192, precision: bf16, optimizer: adam}
parameters:
  tensor_model_parallel_size: {divisors_of: gpus_per_node, max: num_query_groups}
  pipeline_model_parallel_size: {powers_of_two: [1, 8]}
  virtual_pipeline_model_parallel_size:
    values: [1, 2, 5]
    when: pipeline_model_parallel_size > 1
  micro_batch_size: {powers_of_two: [1, 4]}
  sequence_parallel: {values: [false, true]}
  recompute_granularity: {values: [none, full]}
  recompute_method: {values: [uniform, block], when: recompute_granularity == 'full'}
  recompute_num_layers: {range: [1, 9, 4], when: recompute_method == 'block'}
constraints:
  - not sequence_parallel or tensor_model_parallel_size > 1
  - rule: recompute_num_layers <= num_layers // pipeline_model_parallel_size
    reason: a stage holds no more layers
baseline:
  tensor_model_parallel_size: 8
  pipeline_model_parallel_size: 2
  virtual_pipeline_model_parallel_size: 1
  micro_batch_size: 1
  sequence_parallel: true
  recompute_granularity: full
  recompute_method: block
  recompute_num_layers: 9
"""

EITHER = """\
name: either
model: llama-3.2-1b
cluster: {gpus_per_node: 4}
contract: {global_batch_size: 32, seq_length: 2048, precision: bf16, optimizer: adamw}
parameters:
  zero_stage: {values: [0, 1, 2, 3], when: framework == 'deepspeed'}
  tensor_model_parallel_size: {values: [1, 2, 4], when: framework == 'megatron'}
  framework: {values: [deepspeed, megatron]}
  micro_batch_size: {powers_of_two: [1, 8]}
baseline: {framework: deepspeed, zero_stage: 1, micro_batch_size: 4}
"""
