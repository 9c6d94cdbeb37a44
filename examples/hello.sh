# A task for the shell harness: the prompt is the script.
echo "Hello from run $OZ_RUN_ID, on the $OZ_WORKER_BACKEND backend."
echo "The workspace is private to this task: $(ls -ld "$PWD" | cut -c1-10)"
for step in 1 2 3; do
    echo "step $step of 3"
    sleep 0.3
done
git --version >/dev/null 2>&1 && git init -q demo && echo "a git repository: $(ls -d demo)"
echo "done"
