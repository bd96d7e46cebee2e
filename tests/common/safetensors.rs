//! Writes safetensors files.
#![allow(dead_code)]

#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<u64>,
    pub data: Vec<u8>,
}

/// Of zeros.
pub fn floats(name: &str, shape: &[u64]) -> Tensor {
    let data = vec![0; 4 * shape.iter().product::<u64>() as usize];
    Tensor { name: name.into(), dtype: "F32".into(), shape: shape.into(), data }
}

pub fn write(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in tensors {
        let begin = data.len();
        data.extend_from_slice(&tensor.data);
        let entry =
            serde_json::json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()] });
        header.insert(tensor.name.clone(), entry);
    }
    let header = serde_json::to_string(&header).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}
