"""Fine-tuning by Ultralytics' trainer that keeps the pruned architecture, and can be interrupted at any time."""
