// Drives a contender that has to run in a worker.
onmessage = async ({ data: job }) => {
  try {
    const [{ drive }, contender] = await Promise.all([import('/harness/lib/drive.mjs'), import(job.contenderUrl)]);
    postMessage({ result: await drive(contender, job) });
  } catch (error) {
    postMessage({ error: String(error?.stack ?? error) });
  }
};
