/** What `--help` prints. */
export const helpText = `SEER on Deno: self-supervised pretraining of RegNetY with SwAV

  deno task quickstart [--data DIR]             pretrain a small network and evaluate it
  deno task pretrain [--preset NAME] [--config FILE] [--KEY VALUE …]
                     [--data DIR] [--resume RUN] [--hosts N] [--single-process] [--no-keeper]
                     [--no-tune] [--probe knn,linear --every N [--probe.data DIR]]
  deno task tune [--preset NAME] [--config FILE] [--KEY VALUE …] [--again]
                                                time a run's kernels ahead of it
  deno task evaluate RUN [--data DIR] [--json FILE]
  deno task evaluate PROTOCOL --weights FILE --data DIR [--json FILE]
                     knn, retrieval, svm, low-shot-svm, linear, linear-swav, multi-label,
                     finetune, finetune-vissl, low-shot, low-shot-swav (docs/evaluation.md);
                     [--trainers N] [--hosts N] share the features out
  deno task seer export --weights RUN|FILE --format torchvision|timm|vissl|hf|onnx [--out PATH]
                                                weights for another library
  deno task seer import FILE --out FILE [--format NAME] [--network NAME]
                                                another library's weights, checked
  deno task seer embed IMAGE|DIR … --weights FILE [--out FILE.npy|.parquet]
  deno task seer search IMAGE … --weights FILE --data DIR [--count 10] [--out FILE.html]
  deno task seer host --join URL --token-file FILE [--rejoin SECONDS]
                                                add this machine to a cluster; SIGTERM hands over
  deno task seer status RUN [--json]            where a run and its actors stand
  deno task seer postmortem RUN                 what happened to a run, in one page
  deno task seer plan --preset NAME [--trainers N]
  deno task chaos [--kills N] [--freezes N] [--seed S]
                                                kill actors of a small run, compare its weights
                     [--matrix] [--elastic N]   each role in each phase; trainers that come and go
  deno task simulate [--seeds N]                clusters under faults in virtual time
  deno task doctor                              check this machine

Presets: quickstart, seer-128gf, seer-256gf. Every key of docs/config.md is an option: --schedule.learningRate 0.1`;
